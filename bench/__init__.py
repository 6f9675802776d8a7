"""Measures this server and a hand-written one in the same run, on one machine: `make bench`."""
