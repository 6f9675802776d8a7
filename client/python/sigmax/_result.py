"""What a classification gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sigmax import _tensor
from sigmax._enums import dtype_name
from sigmax.v1 import classifier_pb2 as pb


@dataclass(frozen=True, slots=True)
class ScoredClass:
    """A class and its probability."""

    index: int
    """The class, from 0."""
    label: str
    """Its name; empty where the model declares no labels."""
    probability: float
    """In [0, 1]."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a request's time went inside the server."""

    queue_ns: int
    """From decoded to the start of its batch, in nanoseconds."""
    compute_ns: int
    """The run of the model on the whole batch, in nanoseconds."""
    total_ns: int
    """From the first byte read to the answer's encoding, in nanoseconds."""
    batch_rows: int
    """Rows in the batch this request ran in, its own included."""


class Classification:
    """The answer to one row."""

    def __init__(self, row: pb.Classification, task: str | None, probabilities: Any) -> None:
        self._row = row
        self._task = task
        self._probabilities = probabilities

    @cached_property
    def classes(self) -> tuple[ScoredClass, ...]:
        """Classes by falling probability, ties by the lower index; at most `top_k` of them."""
        return tuple(_scored(c) for c in self._row.classes)

    @cached_property
    def decision(self) -> tuple[ScoredClass, ...]:
        """What is decided. Exactly one class; multi-label: all over their thresholds, or none."""
        return tuple(_scored(c) for c in self._row.decision)

    @property
    def best(self) -> ScoredClass:
        """The class decided; of a multi-label model the most probable, decided or not."""
        return self.classes[0] if self._task == "multilabel" else self.decision[0]

    @property
    def index(self) -> int:
        """The index of `best`."""
        return self.best.index

    @property
    def label(self) -> str:
        """The label of `best`; empty where the model declares no labels."""
        return self.best.label

    @property
    def probability(self) -> float:
        """The probability of `best`, in [0, 1]."""
        return self.best.probability

    def top(self, count: int) -> tuple[ScoredClass, ...]:
        """Give the most probable classes, at most `count` and at most the request's `top_k`."""
        return self.classes[: max(count, 0)]

    @property
    def probabilities(self) -> NDArray[Any]:
        """One probability a class, by index: shape [classes]. Binary: [1 - p, p].

        Raises:
            ValueError: The request had `return_probabilities=False`.
        """
        if self._probabilities is None:
            raise ValueError("probabilities were not asked for: return_probabilities was False")
        return self._probabilities  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        decided = ", ".join(f"{c.label or c.index} {c.probability:.4g}" for c in self.decision)
        return f"Classification({decided or 'nothing decided'})"


class Result(Sequence[Classification]):
    """The answer to one request: a sequence of its rows.

    A result of exactly one row is that row, too: `result.label` is `result[0].label`, and so on.

    Attributes:
        model: The name of the model that answered.
        version: The version that answered.
        timings: Where the time went in the server.
    """

    def __init__(self, response: pb.ClassifyResponse, task: str | None, one_row: bool) -> None:
        self.model = response.model_name
        self.version = response.model_version
        spent = response.timings
        self.timings = Timings(spent.queue_ns, spent.compute_ns, spent.total_ns, spent.batch_rows)
        self._rows = response.rows
        self._tensor = response.probabilities if response.HasField("probabilities") else None
        self._task = task
        self._one_row = one_row

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Classification: ...
    @overload
    def __getitem__(self, index: slice) -> list[Classification]: ...
    def __getitem__(self, index: int | slice) -> Classification | list[Classification]:
        if isinstance(index, slice):
            return [self._row(i) for i in range(*index.indices(len(self)))]
        return self._row(range(len(self))[index])

    def __iter__(self) -> Iterator[Classification]:
        return (self._row(i) for i in range(len(self)))

    def _row(self, index: int) -> Classification:
        matrix = self._matrix
        return Classification(
            self._rows[index], self._task, None if matrix is None else matrix[index]
        )

    @cached_property
    def _matrix(self) -> NDArray[Any] | None:
        """Probabilities as [rows, classes]; a binary model's only column becomes two."""
        if self._tensor is None:
            return None
        array = _tensor.from_bytes(
            self._tensor.raw,
            dtype_name(self._tensor.dtype),
            tuple(self._tensor.shape),
        ).reshape(len(self), -1)
        if self._task == "binary":
            return np.hstack([1 - array, array])
        return array

    @property
    def labels(self) -> list[str]:
        """Every row's label, in the order of the request."""
        return [row.label for row in self]

    @property
    def probabilities(self) -> NDArray[Any]:
        """Probabilities by class: shape [rows, classes], or [classes] where one row was given.

        Raises:
            ValueError: The request had `return_probabilities=False`.
        """
        if self._one_row:
            return self._only.probabilities
        if self._matrix is None:
            raise ValueError("probabilities were not asked for: return_probabilities was False")
        return self._matrix

    @property
    def _only(self) -> Classification:
        if len(self) != 1:
            raise ValueError(f"the result has {len(self)} rows: ask one of them, as result[0]")
        return self._row(0)

    @property
    def classes(self) -> tuple[ScoredClass, ...]:
        """The only row's `classes`; ValueError where there are several rows."""
        return self._only.classes

    @property
    def decision(self) -> tuple[ScoredClass, ...]:
        """The only row's `decision`; ValueError where there are several rows."""
        return self._only.decision

    @property
    def best(self) -> ScoredClass:
        """The only row's `best`; ValueError where there are several rows."""
        return self._only.best

    @property
    def label(self) -> str:
        """The only row's `label`; ValueError where there are several rows."""
        return self._only.label

    @property
    def probability(self) -> float:
        """The only row's `probability`; ValueError where there are several rows."""
        return self._only.probability

    def top(self, count: int) -> tuple[ScoredClass, ...]:
        """Give the only row's `top`; ValueError where there are several rows."""
        return self._only.top(count)

    def __repr__(self) -> str:
        return f"Result(model={self.model!r}, version={self.version!r}, rows={list(self)})"


def _scored(message: pb.ScoredClass) -> ScoredClass:
    return ScoredClass(message.index, message.label, message.probability)
