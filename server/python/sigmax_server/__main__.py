"""The command `python -m sigmax_server`, the same as `sigmax serve`."""

import sys

from sigmax_server.cli import main

sys.exit(main(sys.argv[1:]))
