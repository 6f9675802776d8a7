"""Silence while torch works: its log, its warnings and its prints."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from sigmax_models.errors import ExportNotice, InexactWarning


@contextmanager
def quiet(verbose: bool) -> Iterator[None]:
    """Keep from users what they can do nothing about: logs, warnings and graphs that torch prints.

    Warnings of this package are given when the block ends without an error, as those of the line
    that called the function with the block. The whole process is silent meanwhile, so the block
    should be short.

    Args:
        verbose: Whether nothing is to be kept.
    """
    if verbose:
        yield
        return
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            warnings.simplefilter("always")
            yield
    finally:
        logging.disable(level)
    for warning in caught:
        if issubclass(warning.category, (ExportNotice, InexactWarning)):
            warnings.warn(warning.message, warning.category, stacklevel=4)
