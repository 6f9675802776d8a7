"""Standard streams that are closed, full or left by their reader, and errors for people."""

import os
import sys
from typing import TextIO


class CommandError(Exception):
    """A failure of a command, in one line for the person who gave it."""


def fill_closed() -> None:
    """Open /dev/null in the place of each standard stream that is closed.

    Otherwise a socket would get the stream's number, and libraries would print into the socket.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def flush(stream: TextIO) -> None:
    """Write out what a stream has buffered.

    Raises:
        BrokenPipeError: The reader of the stream has gone.
        CommandError: The stream cannot be written.
    """
    try:
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(stream)
        raise CommandError(f"cannot write: {error.strerror}") from error


def discard(stream: TextIO) -> None:
    """Send the stream's buffered text to /dev/null, where the interpreter's last flush succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def complain(text: str) -> None:
    """Print to standard error; do nothing where that is closed or fails."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)
