"""Messages of the control plane on standard error, and the streams that never block."""

import io
import sys
from collections.abc import Callable, Iterable
from threading import Lock

from sigmax_server import model_config
from sigmax_server._native import finish_output, print_error, print_output
from sigmax_server.repository import Found
from sigmax_server.text import plain

LAST_SECONDS = 2.0  # most seconds that the end of the process waits for the reader of its output


def say(text: str) -> None:
    """Print one line; unprintable characters are escaped, so that a quoted text adds no line."""
    print(f"sigmax serve: {plain(text)}", file=sys.stderr)


def warn_of_unused(models: Iterable[Found]) -> None:
    """Warn, once for each model, of the fields of its configuration that have no effect."""
    # All versions of a model have the same configuration.
    for found in {found.name: found for found in models}.values():
        if fields := model_config.unused(found.config):
            say(f"warning: {found.source}/config.pbtxt: without effect: {', '.join(fields)}")


def print_without_waiting() -> None:
    """Replace the standard streams by ones that never block and never fail.

    Everything that Python prints, tracebacks too, goes to queues that threads of the native module
    write. Callers of print do not learn whether the output is read.
    """
    sys.stdout, sys.stderr = _Lines(print_output), _Lines(print_error)


def finish() -> None:
    """Wait at most `LAST_SECONDS` until all output is written, as the interpreter's end does."""
    finish_output(LAST_SECONDS)


class _Lines(io.TextIOBase):
    """A text stream that passes on whole lines, and keeps a line until its end is written."""

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
                # Names of files may hold bytes that are no text; print must not fail with them.
                self._print_lines(whole.encode(errors="backslashreplace").decode())
        return len(text)
