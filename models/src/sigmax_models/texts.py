"""Inputs that hold texts: UINT8 [rows, bytes], each row UTF-8 and then zeros."""

from collections.abc import Sequence

import numpy as np

from sigmax_models.errors import ExportError
from sigmax_models.inputs import Free, Rows


def check_texts(texts: Sequence[str], rows: Rows, free: Free) -> None:
    """Check the rows of inputs that are declared as texts.

    Args:
        texts: Names of these inputs.
        rows: Rows of each input by its name.
        free: Free axes besides the batch.

    Raises:
        ExportError: The rows are not UINT8 [rows, bytes] of a fixed length, or one is no text.
    """
    for name in texts:
        array = rows[name]
        if array.dtype != np.uint8 or array.ndim != 2 or name in free:
            raise ExportError(
                f"encodings: expected {name!r} as uint8 of shape [rows, bytes] with a fixed number "
                f"of bytes, got {array.dtype} {list(array.shape)}"
                f"{' with a free axis' if name in free else ''}"
            )
        for number, row in enumerate(array):
            try:
                is_text = "\0" not in row.tobytes().rstrip(b"\0").decode()
            except UnicodeDecodeError:
                is_text = False
            if not is_text:
                raise ExportError(
                    f"encodings: expected rows of {name!r} to be UTF-8 and then zeros, "
                    f"row {number} is not"
                )


def random_texts(count: int, size: int, chance: np.random.Generator) -> np.ndarray:
    """Return rows of 1 to `size` small letters, padded with zeros, UINT8 [count, size]."""
    letters = chance.integers(ord("a"), ord("z") + 1, size=(count, size))
    lengths = chance.integers(1, size + 1, size=(count, 1))
    return np.where(np.arange(size) < lengths, letters, 0).astype(np.uint8)
