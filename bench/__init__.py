"""`make bench`: this server beside a hand-written one, in one run, on one machine."""
