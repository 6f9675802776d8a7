"""A progress bar, where there is somebody to see it."""

import sys
from collections.abc import Callable

# Called with how much is done and how much there is.
Progress = Callable[[int, int], None]

_WIDTH = 30


def silent(done: int, total: int) -> None:
    """Show nothing."""


def bar(title: str) -> Progress:
    """A bar on standard error that erases itself when full; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        return silent

    def show(done: int, total: int) -> None:
        full = _WIDTH * done // total
        line = f"\r{title:<11} [{'#' * full}{' ' * (_WIDTH - full)}] {100 * done // total:3}%"
        sys.stderr.write(line if done < total else "\r\x1b[K")
        sys.stderr.flush()

    return show
