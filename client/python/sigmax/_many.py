"""Rows of `classify_many` gathered into requests, and answers given back row by row.

Both clients share this module. Nothing here sends or waits.
"""

import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from sigmax import _codec, _inputs, _tensor
from sigmax._codec import Asked, Question
from sigmax._errors import InvalidInput, ServerFault, SigmaxError
from sigmax._inputs import Inputs
from sigmax._model import Model
from sigmax._result import Classification
from sigmax.v1 import classifier_pb2 as pb

Rows: TypeAlias = Iterable[Inputs] | Mapping[str, Any]
"""Rows, each as `classify` takes one; or arrays of rows by the names of the inputs."""

# Bytes of a request from which on its own cost is little beside that of its rows.
_COMFORTABLE: Final = 64 * 2**10
# Reasons of errors that are about the options of a call: all its rows would get the same.
_OF_OPTIONS: Final = ("", "BAD_FIELD", "BAD_VERSION", "UNKNOWN_HEAD")


class Batch:
    """Rows that one request holds, in their order, among them those that are not sent.

    Attributes:
        refused: Errors of the rows that do not fit the model, by their place in the batch.
        broken: The exception that the caller's iterable raised after these rows.
    """

    def __init__(self, shapes: list[tuple[int, ...]]) -> None:
        self.shapes = shapes  # of one row of each input
        self.columns: list[list[bytes]] = [[] for _ in shapes]  # the rows of each input
        self.refused: dict[int, SigmaxError] = {}
        self.broken: Exception | None = None

    @property
    def sent(self) -> int:
        """Number of rows that the request holds."""
        return len(self.columns[0])

    def __len__(self) -> int:
        return len(self.columns[0]) + len(self.refused)

    def halves(self) -> "tuple[Batch, Batch]":
        """Return the rows that are sent as two batches."""
        middle = self.sent // 2
        first, second = Batch(self.shapes), Batch(self.shapes)
        first.columns = [column[:middle] for column in self.columns]
        second.columns = [column[middle:] for column in self.columns]
        return first, second

    def in_order(
        self, answers: Iterable[Classification | SigmaxError]
    ) -> Iterator[Classification | SigmaxError]:
        """Yield the answers to the rows that were sent, with the errors of others in their places.

        Raises:
            Exception: The exception that the caller's iterable raised after these rows.
        """
        if self.refused:
            following = iter(answers)
            for place in range(len(self)):
                yield self.refused[place] if place in self.refused else next(following)
        else:
            yield from answers
        if self.broken is not None:
            raise self.broken


class Gatherer:
    """Gathers rows into the batches of one call of `classify_many`.

    Args:
        question: Options of the call.
        model: Description of the model, which the rows must fit.
        batch_size: Most rows of a batch; None for what `default_size` says.
        in_flight: Most requests under way.

    Raises:
        InvalidInput: A number or a head cannot be used so.
    """

    def __init__(
        self, question: Question, model: Model, batch_size: int | None, in_flight: int
    ) -> None:
        most = max(model.max_batch_size, 1)
        self._size = default_size(model) if batch_size is None else batch_size
        if not 1 <= self._size <= most:
            raise _bad("batch_size", f"from 1 to {most}, the most of the model", batch_size)
        if in_flight < 1:
            raise _bad("in_flight", "1 or more", in_flight)
        self._question = question
        self._model = model
        self._task = _codec.task_of(question, model)
        self._plain = _plain_row(model)
        self._batch = self._empty()

    def batches(self, rows: Rows) -> Iterator[Batch]:
        """Yield the rows in batches; an exception that `rows` raises goes with the last one."""
        try:
            if isinstance(rows, str | bytes):
                raise _bad("rows", "rows, such as a list of texts", "one text")
            if isinstance(rows, Mapping) or hasattr(rows, "__array__"):
                yield from self._slices(rows)
            else:
                for row in rows:
                    if (full := self._add(row)) is not None:
                        yield full
        except Exception as error:
            self._batch.broken = error
        yield self._take()

    async def batches_async(self, rows: Rows | AsyncIterable[Inputs]) -> AsyncIterator[Batch]:
        """Yield the rows in batches as `batches` does."""
        if not isinstance(rows, AsyncIterable):
            for batch in self.batches(rows):
                yield batch
            return
        try:
            async for row in rows:
                if (full := self._add(row)) is not None:
                    yield full
        except Exception as error:
            self._batch.broken = error
        yield self._take()

    def request(self, batch: Batch) -> tuple[pb.ClassifyRequest, Asked]:
        """Build the request for the rows of a batch, and what its answer must fit."""
        count = batch.sent
        parts = [
            ((count, *shape), b"".join(column))
            for shape, column in zip(batch.shapes, batch.columns, strict=True)
        ]
        asked = Asked(self._question, self._task, count, single=False)
        return _codec.request(self._question, self._model, parts), asked

    def _slices(self, rows: Any) -> Iterator[Batch]:
        """Yield batches of arrays of rows, which are cut, so that few rows are read at a time."""
        counts = {len(each) for each in (rows.values() if isinstance(rows, Mapping) else [rows])}
        if len(counts) > 1:
            raise _bad("rows", "as many rows of every input", f"{sorted(counts)} rows")
        count = counts.pop() if counts else 0
        for start in range(0, count, self._size):
            end = min(start + self._size, count)
            if (whole := self._whole(_cut(rows, start, end))) is not None:
                yield whole
                continue
            for place in range(start, end):
                if (full := self._add(_cut(rows, place, place + 1))) is not None:
                    yield full
            if len(self._batch):
                yield self._take()

    def _whole(self, rows: Inputs) -> Batch | None:
        """Read rows as one batch; None where some do not fit the model."""
        model = self._model
        try:
            arrays, single = _inputs.read(model, rows)
            if single or not model.max_batch_size:
                return None
            batch = Batch([array.shape[1:] for array in arrays])
            for spec, array, column in zip(model.inputs, arrays, batch.columns, strict=True):
                if spec.dtype == "BYTES":
                    each = (array[place : place + 1] for place in range(len(array)))
                    column += (_tensor.to_bytes(row, "BYTES") for row in each)
                else:
                    column += (row.tobytes() for row in _inputs.convert(model, spec, array))
        except InvalidInput:
            return None
        return batch

    def _add(self, row: Inputs) -> Batch | None:
        """Read a row; return a batch where it is full, or the row begins another one."""
        batch, full = self._batch, None
        try:
            shapes, raws = self._read(row)
        except InvalidInput as error:
            batch.refused[len(batch)] = error
        else:
            if batch.shapes != shapes:
                if batch.sent:
                    full = self._take()
                batch = self._batch
                batch.shapes = shapes
            for column, raw in zip(batch.columns, raws, strict=True):
                column.append(raw)
        return self._take() if len(batch) >= self._size else full

    def _read(self, row: Inputs) -> tuple[list[tuple[int, ...]], list[bytes]]:
        """Return the shape and the elements of each input of one row."""
        if type(row) is np.ndarray and (row.dtype, row.shape) == self._plain:
            return [row.shape], [row.tobytes()]
        arrays, single = _inputs.read(self._model, row)
        shapes = [_inputs.shape_of(array, single) for array in arrays]
        if any(shape[:1] != (1,) for shape in shapes):
            raise InvalidInput.in_field(
                "inputs",
                "SHAPE_MISMATCH",
                f"model '{self._model.name}' expects one row at a time here; got a batch of the "
                f"shape {', '.join(str(list(shape)) for shape in shapes)}",
            )
        pairs = zip(self._model.inputs, arrays, strict=True)
        raws = [_inputs.to_bytes(self._model, spec, array) for spec, array in pairs]
        return [shape[1:] for shape in shapes], raws

    def _empty(self) -> Batch:
        return Batch([()] * len(self._model.inputs))

    def _take(self) -> Batch:
        taken, self._batch = self._batch, self._empty()
        return taken


def default_size(model: Model) -> int:
    """Return the rows of a batch where the caller names none.

    These are the rows from which on the server gains nothing, or as many as have 64 KiB where that
    is more; 1 where the answer to a row depends on the others.
    """
    if not model.rows_independent or not model.max_batch_size:
        return 1
    row_bytes = sum(_row_bytes(spec.dtype, spec.shape[1:]) for spec in model.inputs)
    comfortable = int(_COMFORTABLE / max(row_bytes, 1))
    return max(1, min(model.max_batch_size, max(model.preferred_batch_size, comfortable)))


def is_of_rows(error: SigmaxError) -> bool:
    """Return whether fewer rows could have another answer than this error."""
    return isinstance(error, InvalidInput | ServerFault) and error.reason not in _OF_OPTIONS


def _row_bytes(dtype: str, shape: tuple[int, ...]) -> float:
    """Return the bytes of one row of an input; infinity where the description does not say."""
    if dtype not in _tensor.DTYPES or -1 in shape:
        return math.inf
    return _tensor.DTYPES[dtype].itemsize * math.prod(shape)


def _plain_row(model: Model) -> tuple[Any, tuple[int, ...]] | None:
    """Return the dtype and the shape of arrays that are rows as the server takes them, if any."""
    [spec, *others] = model.inputs
    if others or spec.any_rank or not model.max_batch_size:
        return None
    if spec.dtype not in _tensor.DTYPES or spec.dtype == "BF16":
        return None
    return _tensor.DTYPES[spec.dtype], spec.shape[1:]


def _cut(rows: Any, start: int, end: int) -> Any:
    if isinstance(rows, Mapping):
        return {name: each[start:end] for name, each in rows.items()}
    return rows[start:end]


def _bad(field: str, expected: str, got: object) -> InvalidInput:
    return InvalidInput.in_field(field, "BAD_FIELD", f"{field}: expected {expected}; got {got}")
