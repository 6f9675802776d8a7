"""The command line `sigmax`.

Modules are imported when they are first needed: `sigmax serve` loads neither gRPC nor NumPy.
"""

from sigmax._cli.command import main

__all__ = ["main"]
