"""A progress bar for terminals."""

import sys
from collections.abc import Callable

# A function that is called with the number of finished steps and the number of all steps.
Progress = Callable[[int, int], None]

_WIDTH = 30


def silent(done: int, total: int) -> None:
    """Show nothing."""


def bar(title: str) -> Progress:
    """Make a bar on standard error that erases itself when full; `silent` without a terminal."""
    if not sys.stderr.isatty():
        return silent

    def show(done: int, total: int) -> None:
        full = _WIDTH * done // total
        line = f"\r{title:<11} [{'#' * full}{' ' * (_WIDTH - full)}] {100 * done // total:3}%"
        sys.stderr.write(line if done < total else "\r\x1b[K")
        sys.stderr.flush()

    return show
