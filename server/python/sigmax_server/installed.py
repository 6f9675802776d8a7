"""What is installed, by the names of its records."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

_ENDING = ".dist-info"


def record(distribution: str, path: Sequence[str] | None = None) -> str | None:
    """Find the record of a distribution, such as `onnxruntime-1.32.0.dist-info`.

    importlib.metadata would find the same; importing that module takes longer than all the rest
    of the control plane.

    Args:
        distribution: its name as wheels have it, with `_` for `-`.
        path: the folders to look in; by default those that Python imports from.

    Returns:
        The record's name; None where there is none.
    """
    for folder in sys.path if path is None else path:
        with suppress(OSError), os.scandir(folder or ".") as entries:
            for entry in entries:
                if entry.name.startswith(f"{distribution}-") and entry.name.endswith(_ENDING):
                    return entry.name
    return None


def version(distribution: str) -> str:
    """Return the version of a distribution; `unknown` where it has no record."""
    found = record(distribution)
    if found is None:
        return "unknown"
    return found.removeprefix(f"{distribution}-").removesuffix(_ENDING)
