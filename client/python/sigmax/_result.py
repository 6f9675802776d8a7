"""The answer to a classify call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sigmax import _tensor
from sigmax._enums import dtype_name
from sigmax._errors import ServerFault
from sigmax.v1 import classifier_pb2 as pb


@dataclass(frozen=True, slots=True)
class ScoredClass:
    """A class and its probability."""

    index: int
    """Index of the class, from 0."""
    label: str
    """Name of the class; empty where the model declares no labels."""
    probability: float
    """Probability of the class, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Time that a request spent in the server."""

    queue_ns: int
    """Nanoseconds from the check of the request to the start of its batch."""
    compute_ns: int
    """Nanoseconds of the whole batch: gathering its rows, the run, splitting the outputs."""
    total_ns: int
    """Nanoseconds from the call's headers, or a stream's request, to the answer's encoding."""
    batch_rows: int
    """Rows of the batch that the request ran in, the request's own included."""


class Classification:
    """The answer to one row."""

    __slots__ = ("_classes", "_decision", "_index", "_matrix", "_row", "_task")

    def __init__(
        self, row: pb.Classification, task: str | None, matrix: NDArray[Any] | None, index: int
    ) -> None:
        self._row = row
        self._task = task
        self._matrix = matrix
        self._index = index
        self._classes: tuple[ScoredClass, ...] | None = None
        self._decision: tuple[ScoredClass, ...] | None = None

    @property
    def classes(self) -> tuple[ScoredClass, ...]:
        """The most probable classes, at most the request's `top_k`; ties by the lower index.

        A binary model has two classes: 1 with the model's probability p, and 0 with 1 - p.
        """
        if self._classes is None:
            self._classes = tuple(map(_scored, self._row.classes))
        return self._classes

    @property
    def decision(self) -> tuple[ScoredClass, ...]:
        """The classes decided on, in the order of their indices.

        Multi-class: the most probable class. Binary: class 1 where its probability is over the
        threshold, else class 0. Multi-label: every class whose probability is over its threshold,
        which may be none.
        """
        if self._decision is None:
            self._decision = tuple(map(_scored, self._row.decision))
        return self._decision

    @property
    def best(self) -> ScoredClass:
        """The class decided on; for a multi-label model the most probable class, decided or not."""
        return _scored(self._best)

    @property
    def index(self) -> int:
        """Index of `best`, from 0."""
        return self._best.index

    @property
    def label(self) -> str:
        """Label of `best`; empty where the model declares no labels."""
        return self._best.label

    @property
    def probability(self) -> float:
        """Probability of `best`, in [0, 1]."""
        return self._best.probability

    @property
    def _best(self) -> pb.ScoredClass:
        choices = self._row.classes if self._task == "multilabel" else self._row.decision
        if not choices:
            raise ServerFault.malformed("a row has no class")
        return choices[0]

    def top(self, count: int) -> tuple[ScoredClass, ...]:
        """Return the most probable classes, at most `count` and at most the request's `top_k`."""
        return self.classes[: max(count, 0)]

    @property
    def probabilities(self) -> NDArray[Any]:
        """The probability of each class, by index: shape [classes]; binary: [1 - p, p].

        The dtype is that of the model's output, float32 where that is BF16.

        Raises:
            ValueError: The request had `return_probabilities=False`.
        """
        if self._matrix is None:
            raise ValueError("probabilities were not asked for: return_probabilities was False")
        return self._matrix[self._index]  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        decided = ", ".join(f"{c.label or c.index} {c.probability:.4g}" for c in self.decision)
        return f"Classification({decided or 'nothing decided'})"


class Result(Sequence[Classification]):
    """The answer to one request: a sequence of a `Classification` for each row.

    A result of exactly one row has the properties of that row, too: `result.label` is
    `result[0].label`. The exception is `index`, which is the method of a sequence here.
    """

    def __init__(self, response: pb.ClassifyResponse, task: str | None, one_row: bool) -> None:
        self._response = response
        self._task = task
        self._one_row = one_row

    @property
    def model(self) -> str:
        """Name of the model that answered."""
        return self._response.model_name

    @property
    def version(self) -> str:
        """Version that answered, as a decimal number."""
        return self._response.model_version

    @property
    def head(self) -> str:
        """Name of the head that answered; empty where the model's one head has no name."""
        return self._response.head

    @property
    def timings(self) -> Timings:
        """Time that the request spent in the server."""
        spent = self._response.timings
        return Timings(spent.queue_ns, spent.compute_ns, spent.total_ns, spent.batch_rows)

    def __len__(self) -> int:
        return len(self._response.rows)

    @overload
    def __getitem__(self, index: int) -> Classification: ...
    @overload
    def __getitem__(self, index: slice) -> list[Classification]: ...
    def __getitem__(self, index: int | slice) -> Classification | list[Classification]:
        if isinstance(index, slice):
            return [self._row(i) for i in range(*index.indices(len(self)))]
        return self._row(range(len(self))[index])

    def __iter__(self) -> Iterator[Classification]:
        task, matrix = self._task, self._matrix
        rows = enumerate(self._response.rows)
        return (Classification(row, task, matrix, index) for index, row in rows)

    def _row(self, index: int) -> Classification:
        return Classification(self._response.rows[index], self._task, self._matrix, index)

    @cached_property
    def _matrix(self) -> NDArray[Any] | None:
        """Probabilities, shape [rows, classes]; a binary model's one column p becomes 1 - p, p."""
        response = self._response
        if not response.HasField("probabilities"):
            return None
        tensor = response.probabilities
        dtype, shape = dtype_name(tensor.dtype), tuple(tensor.shape)
        try:
            array = _tensor.from_bytes(tensor.raw, dtype, shape).reshape(len(self), -1)
        except ValueError as error:
            raise ServerFault.malformed(f"probabilities: {error}") from error
        if array.dtype.kind != "f":
            raise ServerFault.malformed(f"expected floats as probabilities, got {dtype}")
        if self._task == "binary":
            return np.hstack([1 - array, array])
        return array

    @property
    def labels(self) -> list[str]:
        """The label of each row's `best` class, in the order of the request."""
        return [row.label for row in self]

    @property
    def probabilities(self) -> NDArray[Any]:
        """The probability of each class: shape [rows, classes], or [classes] for one row.

        A batch of one row has shape [1, classes]. Binary models have two classes: [1 - p, p]. The
        dtype is that of the model's output, float32 where that is BF16.

        Raises:
            ValueError: The request had `return_probabilities=False`.
        """
        matrix = self._matrix
        if matrix is None:
            raise ValueError("probabilities were not asked for: return_probabilities was False")
        return matrix[0] if self._one_row else matrix

    @property
    def _only(self) -> Classification:
        if len(self) != 1:
            raise ValueError(f"the result has {len(self)} rows: ask one of them, as result[0]")
        return self._row(0)

    @property
    def classes(self) -> tuple[ScoredClass, ...]:
        """The `classes` of the only row; ValueError where there are several rows."""
        return self._only.classes

    @property
    def decision(self) -> tuple[ScoredClass, ...]:
        """The `decision` of the only row; ValueError where there are several rows."""
        return self._only.decision

    @property
    def best(self) -> ScoredClass:
        """The `best` class of the only row; ValueError where there are several rows."""
        return self._only.best

    @property
    def label(self) -> str:
        """The `label` of the only row; ValueError where there are several rows."""
        return self._only.label

    @property
    def probability(self) -> float:
        """The `probability` of the only row, in [0, 1]; ValueError where there are several rows."""
        return self._only.probability

    def top(self, count: int) -> tuple[ScoredClass, ...]:
        """Return the `top` classes of the only row; ValueError where there are several rows."""
        return self._only.top(count)

    def __repr__(self) -> str:
        return f"Result(model={self.model!r}, version={self.version!r}, rows={list(self)})"


def _scored(message: pb.ScoredClass) -> ScoredClass:
    return ScoredClass(message.index, message.label, message.probability)
