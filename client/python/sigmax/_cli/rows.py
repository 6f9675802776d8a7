"""Rows of JSON, CSV and NumPy's files as the inputs of requests."""

import argparse
import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO, TypeAlias

import numpy as np

from sigmax import Inputs, Model, TensorSpec, _tensor
from sigmax._cli.streams import CommandError

Requests: TypeAlias = Callable[[Model], Iterator[Inputs]]
"""Inputs that were read, one request after the other, for the model that takes them."""

_ARGUMENT: Final = "ROWS"  # name in messages of rows that are an argument
_NO_JSON: Final = """; a text is written '"so"', a file is named by --json, --csv, --npy or --npz"""
_MOST_BYTES: Final = 16 * 2**20  # of a request made of many rows; a server takes 64 MiB by default
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_FLOAT: Final = re.compile(r"[+-]?([0-9.]+(e[+-]?[0-9]+)?|inf(inity)?|nan)", re.IGNORECASE)
_BOOLEANS: Final = {"true": True, "false": False}


def source(options: argparse.Namespace) -> Requests:
    """Read what the command line names.

    Raises:
        CommandError: A file cannot be read. The requests raise it, too, where what was read does
            not fit the model.
    """
    if options.image:
        from sigmax._cli import images

        return images.read(options.image)
    if options.csv is not None:
        return read_csv(_text(options.csv), options.csv)
    if options.npy is not None:
        return read_npy(_bytes(options.npy), options.npy)
    if options.npz is not None:
        return read_npz(_bytes(options.npz), options.npz)
    if options.json is not None:
        return read_json(_text(options.json), options.json)
    return read_json(_text("-"), "-") if options.rows == "-" else read_json(options.rows, _ARGUMENT)


def _text(path: str) -> str:
    try:
        return _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(f"cannot read {path}: expected text in UTF-8: {error}") from error


def _bytes(path: str) -> bytes:
    try:
        return _stdin().buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a path with a zero byte
        raise CommandError(f"cannot read {path}: {error}") from error


def _stdin() -> TextIO:
    if sys.stdin is None:
        raise CommandError("cannot read -: standard input is closed")
    return sys.stdin


def read_json(text: str, name: str) -> Requests:
    """Return a request for each JSON document of a text; the documents follow one another."""
    if not text.strip():
        raise CommandError(f"{name}: expected JSON, got nothing")

    def requests(_: Model) -> Iterator[Inputs]:
        decoder = json.JSONDecoder()
        position = _skip_space(text, 0)
        while position < len(text):
            try:
                document, position = decoder.raw_decode(text, position)
            except (ValueError, RecursionError) as error:
                hint = _NO_JSON if name == _ARGUMENT else ""
                raise CommandError(f"{name}: expected JSON: {error}{hint}") from error
            yield document
            position = _skip_space(text, position)

    return requests


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def read_npy(raw: bytes, name: str) -> Requests:
    """Return requests for the rows of an array in NumPy's format."""
    array = _load(raw, name)
    if not isinstance(array, np.ndarray):
        raise CommandError(f"{name}: expected one array; use --npz for several")
    return lambda model: in_batches(model, {only_input(model, "--npy").name: array})


def read_npz(raw: bytes, name: str) -> Requests:
    """Return requests for the rows of arrays in NumPy's format for several."""
    loaded = _load(raw, name)
    if isinstance(loaded, np.ndarray):
        raise CommandError(f"{name}: expected arrays by name; use --npy for one")
    return lambda model: in_batches(model, loaded)


def _load(raw: bytes, name: str) -> Any:
    """Load an array, or a dict of arrays, without running code that a pickle may hold."""
    try:
        loaded = np.load(io.BytesIO(raw), allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # NumPy raises almost any kind for a file that is damaged
        raise CommandError(f"{name}: expected arrays in NumPy's format: {error}") from error


def read_csv(text: str, name: str) -> Requests:
    """Return requests for the rows of a CSV text.

    All columns belong to a model's only input, in their order. The first line is a header where it
    has no number, or the input takes texts. A model with several inputs needs a header of their
    names; an input of several values a row has as many columns of its name.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise CommandError(f"{name}: line {reader.line_num}: expected CSV: {error}") from error
    for number, cells in lines:
        if len(cells) != len(lines[0][1]):
            raise CommandError(
                f"{name}: line {number}: expected {len(lines[0][1])} columns, as in the first "
                f"line, got {len(cells)}"
            )

    def requests(model: Model) -> Iterator[Inputs]:
        columns, rows = _columns(model, lines, name)
        if not rows:
            header = f" after the header {', '.join(lines[0][1])}" if lines else ""
            raise CommandError(f"{name}: expected rows{header}, got none")
        values = {
            spec.name: _csv_values(model, spec, columns[spec.name], rows, name)
            for spec in model.inputs
        }
        if model.max_batch_size:
            yield from in_batches(model, values)
            return
        for index in range(len(rows)):
            yield {key: value[index] for key, value in values.items()}

    return requests


_Lines: TypeAlias = Sequence[tuple[int, list[str]]]


def _columns(model: Model, lines: _Lines, name: str) -> tuple[Mapping[str, list[int]], _Lines]:
    """Return the columns of each input, by its name, and the lines after the header."""
    if not lines:
        return {}, lines
    header = lines[0][1]
    if len(model.inputs) == 1:
        [spec] = model.inputs
        has_header = _takes_texts(spec) or all(_number(cell) is None for cell in header)
        return {spec.name: list(range(len(header)))}, lines[1:] if has_header else lines
    names = [spec.name for spec in model.inputs]
    if set(header) != set(names):
        raise CommandError(
            f"{name}: expected a header with the inputs {', '.join(names)}, got {', '.join(header)}"
        )
    return {each: [i for i, cell in enumerate(header) if cell == each] for each in names}, lines[1:]


def _csv_values(
    model: Model, spec: TensorSpec, columns: list[int], rows: _Lines, name: str
) -> _tensor.Array:
    """Return the values of one input for all rows, in the shape that the input has."""
    row_shape = spec.shape[1:] if model.max_batch_size else spec.shape
    if _takes_texts(spec):
        cells = [[cells[column] for column in columns] for _, cells in rows]
        array = _tensor.read_texts(cells)
        row_shape = row_shape[:-1] if spec.dtype != "BYTES" else row_shape
    else:
        values = [[_cell(line, column, name) for column in columns] for line in rows]
        try:
            array = _tensor.read(np.array(values, dtype=object))
        except ValueError as error:
            raise CommandError(f"{name}: input '{spec.name}': {error}") from error
    try:
        return array.reshape(len(rows), *row_shape) if row_shape.count(-1) < 2 else array
    except ValueError as error:
        raise CommandError(
            f"{name}: expected the columns of input '{spec.name}' to fill rows of the shape "
            f"{list(row_shape)}, got {len(columns)}"
        ) from error


def _cell(line: tuple[int, list[str]], column: int, name: str) -> bool | int | float:
    number = _number(line[1][column])
    if number is None:
        raise CommandError(
            f"{name}: line {line[0]}, column {column + 1}: expected a number, "
            f"got {line[1][column]!r}"
        )
    return number


def _number(text: str) -> bool | int | float | None:
    text = text.strip()
    try:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    except ValueError:  # such as "1.2.3", or more digits than Python reads
        return None
    return _BOOLEANS.get(text.lower())


def _takes_texts(spec: TensorSpec) -> bool:
    return spec.dtype == "BYTES" or bool(spec.encoding)


def only_input(model: Model, flag: str) -> TensorSpec:
    """Return the only input of a model.

    Raises:
        CommandError: The model has several inputs, which the flag cannot give.
    """
    if len(model.inputs) != 1:
        names = ", ".join(spec.name for spec in model.inputs)
        raise CommandError(f"model '{model.name}' has the inputs {names}; {flag} gives one")
    return model.inputs[0]


def in_batches(model: Model, arrays: Mapping[str, _tensor.Array]) -> Iterator[Inputs]:
    """Yield rows in requests that the server takes; arrays that are no batch in one request.

    Args:
        model: Description of the model.
        arrays: Array for each input, by its name. A single array may have any name.
    """
    if len(arrays) == len(model.inputs) == 1:
        arrays = {model.inputs[0].name: next(iter(arrays.values()))}
    rows = {len(array) if array.ndim else -1 for array in arrays.values()}
    are_batches = all(
        spec.name in arrays and _is_batch(spec, arrays[spec.name]) for spec in model.inputs
    )
    if not model.max_batch_size or len(rows) != 1 or not are_batches:
        yield arrays
        return
    [count] = rows
    row_bytes = sum(map(_size, arrays.values())) // max(count, 1)
    step = max(1, min(model.max_batch_size, _MOST_BYTES // max(row_bytes, 1)))
    for start in range(0, max(count, 1), step):
        yield {name: array[start : start + step] for name, array in arrays.items()}


def _size(array: _tensor.Array) -> int:
    return sum(map(len, array.flat)) if array.dtype == object else array.nbytes


def _is_batch(spec: TensorSpec, array: _tensor.Array) -> bool:
    holds_texts = array.dtype.kind in "OSU"
    return array.ndim == len(spec.shape) - (1 if spec.encoding and holds_texts else 0)
