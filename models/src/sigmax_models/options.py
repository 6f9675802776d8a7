"""What the options of `sigmax export` stand for: rows, free axes, declarations."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigmax_models.errors import ExportError

if TYPE_CHECKING:
    import numpy as np

    from sigmax_models.declaration import Declaration
    from sigmax_models.heads import Choices

# Random rows, and their size along a free axis.
_ROWS = 64
_FREE_SIZE = 32
# What an object of --heads may hold.
_HEAD_KEYS = ("name", "output", "output_name", "task", "activation", "labels", "thresholds")


@dataclass(frozen=True)
class InputShape:
    """An input as `--input-shape` describes it.

    Attributes:
        name: Name of the input.
        dtype: Type of its elements, by NumPy's name.
        sizes: Sizes without the batch axis; a word is the name of a free axis.
    """

    name: str
    dtype: str
    sizes: tuple[int | str, ...]

    @classmethod
    def parse(cls, text: str) -> "InputShape":
        """Read `NAME:DTYPE:SIZES`, such as `image:uint8:8,8` or `ids:int64:length`."""
        import numpy as np

        try:
            name, dtype, listed = text.split(":")
            words = [size.strip() for size in listed.split(",") if size]
            sizes = tuple(word if word.isidentifier() else int(word) for word in words)
            if not name or any(isinstance(size, int) and size < 1 for size in sizes):
                raise ValueError
            return cls(name, np.dtype(dtype).name, sizes)
        except (ValueError, TypeError):
            raise argparse.ArgumentTypeError(
                "expected NAME:DTYPE:SIZES, such as image:uint8:8,8 or ids:int64:length, "
                f"got {text!r}"
            ) from None

    def random(self, chance: "np.random.Generator", is_text: bool) -> "np.ndarray":
        """Return random rows: texts, normal, or for integers 0 and 1."""
        import numpy as np

        sizes = [_FREE_SIZE if isinstance(size, str) else size for size in self.sizes]
        if is_text and self.dtype == "uint8" and len(sizes) == 1:
            from sigmax_models.texts import random_texts

            return random_texts(_ROWS, sizes[0], chance)
        shape = (_ROWS, *sizes)
        if np.issubdtype(self.dtype, np.floating):
            return chance.normal(size=shape).astype(self.dtype)
        return chance.integers(0, 2, size=shape).astype(self.dtype)

    def check(self, rows: "np.ndarray") -> "np.ndarray":
        """Return real rows in the input's dtype.

        Raises:
            ExportError: The rows have another shape, or values that the dtype cannot hold.
        """
        import numpy as np

        same = len(self.sizes) == rows.ndim - 1 and all(
            isinstance(size, str) or size == real
            for size, real in zip(self.sizes, rows.shape[1:], strict=True)
        )
        if not same:
            expected = ", ".join(map(str, ("rows", *self.sizes)))
            raise ExportError(
                f"--samples: expected {self.name!r} of shape [{expected}], as --input-shape says, "
                f"got {list(rows.shape)}"
            )
        with np.errstate(invalid="ignore"):  # values that a cast changes are refused below
            converted = rows.astype(self.dtype)
        changed = converted != rows
        if not np.issubdtype(converted.dtype, np.floating) and changed.any():
            raise ExportError(
                f"--samples: expected values of {self.name!r} that {self.dtype} can hold, as "
                f"--input-shape says, got {rows[changed][0]}"
            )
        return converted


def example(
    shapes: Sequence[InputShape], samples: Path | None, encodings: Mapping[str, str]
) -> Any:
    """Return the rows to trace and check with: the given samples, or random rows of the shapes.

    Args:
        shapes: Inputs that `--input-shape` describes.
        samples: File with rows.
        encodings: Encodings of the inputs that hold texts.

    Raises:
        ExportError: There are neither, or the samples are not what the shapes say.
    """
    import numpy as np

    if samples is None:
        if not shapes:
            raise ExportError("expected --input-shape or --samples, got neither")
        chance = np.random.default_rng(0)
        return {shape.name: shape.random(chance, shape.name in encodings) for shape in shapes}
    rows = _read_samples(samples)
    if not shapes:
        return rows
    if not isinstance(rows, dict):
        rows = {shapes[0].name: rows}
    if set(rows) != {shape.name for shape in shapes}:
        raise ExportError(
            f"{samples}: expected arrays called {[shape.name for shape in shapes]}, "
            f"as --input-shape says, got {list(rows)}"
        )
    return {shape.name: shape.check(rows[shape.name]) for shape in shapes}


def dynamic(shapes: Sequence[InputShape]) -> dict[str, dict[int, str]]:
    """Return the names of the free axes, by the input's name and the axis."""
    return {
        shape.name: axes
        for shape in shapes
        if (axes := {i: size for i, size in enumerate(shape.sizes, 1) if isinstance(size, str)})
    }


def declaration(
    options: argparse.Namespace,
) -> "tuple[Declaration | dict[str, Declaration], Choices | None]":
    """Return what the file declares, and the output or outputs of the module that it exports.

    Raises:
        ExportError: The options contradict each other, or a file of theirs is malformed.
    """
    from sigmax_models.declaration import OUTPUT, Declaration

    if options.heads:
        alone = ("output", "output_name", "task", "activation", "labels", "labels_file")
        for name in (*alone, "thresholds"):
            if getattr(options, name) is not None:
                flag = name.replace("_", "-")
                raise ExportError(f"--{flag}: expected it in the file of --heads instead")
        return _read_heads(options)
    labels = read_labels(options.labels_file) if options.labels_file else options.labels
    declared = Declaration(
        task=options.task,
        labels=labels or (),
        thresholds=options.thresholds or (),
        activation=options.activation,
        meanings=dict(options.meaning),
        encodings=dict(options.encoding),
        output=options.output_name or OUTPUT,
    )
    return declared, options.output


def read_labels(path: Path) -> list[str]:
    """Read class names: one a line of a text file, or a list in a .json file.

    A byte-order mark and blank last lines are left out; lines end with LF or CRLF.

    Raises:
        ExportError: The file is no text, or a line is empty.
    """
    text = _read_text(path)
    if path.suffix == ".json":
        labels = _json(path, text)
        if not isinstance(labels, list):
            raise ExportError(f"{path}: expected a list of names, got a {type(labels).__name__}")
        return labels
    lines = [line.strip() for line in text.rstrip().split("\n")]
    for number, line in enumerate(lines, 1):
        if not line:
            raise ExportError(f"{path}: expected a name in line {number}, got an empty line")
    return lines


def _read_heads(
    options: argparse.Namespace,
) -> "tuple[dict[str, Declaration], dict[str, int | str]]":
    from sigmax_models.declaration import OUTPUT, Declaration

    path: Path = options.heads
    listed = _json(path, _read_text(path))
    if not isinstance(listed, list) or not all(isinstance(head, dict) for head in listed):
        raise ExportError(f"{path}: expected a list of objects, one for each head")
    heads: dict[str, Declaration] = {}
    outputs: dict[str, int | str] = {}
    for head in listed:
        name = head.get("name")
        if not isinstance(name, str) or name in heads:
            raise ExportError(f"{path}: expected a name of its own for each head, got {name!r}")
        if unknown := set(head) - set(_HEAD_KEYS):
            raise ExportError(
                f"{path}: head {name!r}: expected {', '.join(_HEAD_KEYS)}, got {sorted(unknown)}"
            )
        try:
            heads[name] = Declaration(
                task=head.get("task"),
                labels=head.get("labels", ()),
                thresholds=head.get("thresholds", ()),
                activation=head.get("activation"),
                meanings=dict(options.meaning),
                encodings=dict(options.encoding),
                output=head.get("output_name", OUTPUT),
            )
        except ExportError as error:
            raise ExportError(f"{path}: head {name!r}: {error}") from error
        if "output" in head:
            outputs[name] = head["output"]
    return heads, outputs


def _read_samples(path: Path) -> Any:
    import numpy as np

    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except OSError:
        raise
    except Exception as error:  # NumPy raises almost any kind for a file that is damaged
        raise ExportError(
            f"{path}: expected an .npz file with an array per input, or an .npy file: {error}"
        ) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: expected text in UTF-8: {error}") from error


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ExportError(f"{path}: expected JSON: {error}") from error
