"""What the control plane says on standard error, and how everything that is printed gets out."""

import io
import sys
from collections.abc import Callable, Iterable
from threading import Lock

from sigmax_server import model_config
from sigmax_server._native import finish_output, print_error, print_output
from sigmax_server.repository import Found
from sigmax_server.text import plain

LAST_SECONDS = 2.0  # that the end of the process waits for who reads what it has printed


def say(text: str) -> None:
    """Say a line; what it quotes can make it no other."""
    print(f"sigmax serve: {plain(text)}", file=sys.stderr)


def warn_of_unused(models: Iterable[Found]) -> None:
    """Say, once a model, which fields of its configuration are without effect."""
    # Versions of a model have one configuration.
    for found in {found.name: found for found in models}.values():
        if fields := model_config.unused(found.config):
            say(f"warning: {found.source}/config.pbtxt: without effect: {', '.join(fields)}")


def print_without_waiting() -> None:
    """From now on, nothing in this process waits for who reads its output, nor fails with it.

    Whatever Python prints goes to queues that threads of the native module write: also a
    traceback. Who prints does not learn whether somebody reads it.
    """
    sys.stdout, sys.stderr = _Lines(print_output), _Lines(print_error)


def finish() -> None:
    """Wait a little until what was printed has been written, as the interpreter's end does, too."""
    finish_output(LAST_SECONDS)


class _Lines(io.TextIOBase):
    """A text stream that hands on whole lines."""

    def __init__(self, print_lines: Callable[[str], None]) -> None:
        self._print_lines = print_lines
        self._begun = ""
        self._lock = Lock()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            whole, ended, self._begun = (self._begun + text).rpartition("\n")
            if ended:
                # Names of files may hold bytes that are no text.
                self._print_lines(whole.encode(errors="backslashreplace").decode())
        return len(text)
