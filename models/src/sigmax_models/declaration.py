"""The description that a model file holds in addition to its graph."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

from sigmax_models.errors import ExportError, ExportNotice

Task = Literal["binary", "multiclass", "multilabel"]
Activation = Literal["sigmoid", "softmax"]
Encoding = Literal["utf-8"]

# Name of the output in the graph, where none is given.
OUTPUT = "probabilities"
# Activations that convert the logits of each task to probabilities.
ACTIVATION_OF_TASK: dict[Task, Activation] = {
    "binary": "sigmoid",
    "multiclass": "softmax",
    "multilabel": "sigmoid",
}


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The task, the classes and the inputs of a network, as its file will state them.

    Attributes:
        task: Meaning of the output: `binary` (one probability for each row, that of class 1),
            `multiclass` (one for each class, with the sum 1), `multilabel` (one for each class,
            independent of the others) or None (raw scores).
        labels: Names of the classes, by index: two for `binary`, else one for each class; or none.
            Two classes may have one name, with a warning.
        thresholds: Thresholds in [0, 1]; a class is decided on where its probability is greater.
            One for `binary`, one for each class for `multilabel`; 0.5 where none are given.
        activation: Activation that the export adds to a module that returns logits; None for a
            module whose output is served unchanged.
        meanings: Meaning of each input, for people, by the input's name.
        encodings: Encoding of each input that holds texts, by the input's name. `utf-8`: the input
            is UINT8 [batch, bytes], and each row a text's bytes in UTF-8, then zeros.
        output: Name of the output in the graph; for one of several heads, `probabilities` stands
            for the name of the head.

    Raises:
        ExportError: The attributes are wrong or contradict each other.

    Warns:
        ExportNotice: Two classes have one name.
    """

    task: Task | None = None
    labels: Sequence[str] = ()
    thresholds: Sequence[float] = ()
    activation: Activation | None = None
    meanings: Mapping[str, str] = field(default_factory=dict)
    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    output: str = OUTPUT

    def __post_init__(self) -> None:
        if self.task not in (None, *ACTIVATION_OF_TASK):
            raise ExportError(
                f"task: expected binary, multiclass, multilabel or None, got {self.task!r}"
            )
        if self.activation not in (None, "sigmoid", "softmax"):
            raise ExportError(
                f"activation: expected sigmoid, softmax or None, got {self.activation!r}"
            )
        if self.task and self.activation not in (None, ACTIVATION_OF_TASK[self.task]):
            raise ExportError(
                f"activation: a {self.task} task expects {ACTIVATION_OF_TASK[self.task]}, "
                f"got {self.activation}"
            )
        if not isinstance(self.output, str) or not self.output:
            raise ExportError(f"output: expected a name that is not empty, got {self.output!r}")
        for name in ("labels", "thresholds"):
            object.__setattr__(self, name, _listed(name, getattr(self, name)))
        for encoding in self.encodings.values():
            if encoding != "utf-8":
                raise ExportError(f"encodings: expected utf-8, got {encoding!r}")
        self._check_labels()
        self._check_thresholds()

    def _check_labels(self) -> None:
        if self.labels and self.task is None:
            raise ExportError("labels: a network without a task has no classes to name")
        for label in self.labels:
            if not isinstance(label, str) or not label:
                raise ExportError(f"labels: expected names that are not empty, got {label!r}")
        if self.task == "binary" and len(self.labels) not in (0, 2):
            raise ExportError(
                f"labels: a binary task expects 2, of class 0 and class 1, got {len(self.labels)}"
            )
        if several := [label for label, count in Counter(self.labels).items() if count > 1]:
            warnings.warn(
                f"labels: more than one class is called {', '.join(map(repr, several[:3]))}",
                ExportNotice,
                stacklevel=4,
            )

    def _check_thresholds(self) -> None:
        if self.thresholds and self.task in (None, "multiclass"):
            raise ExportError(
                "thresholds: only binary and multilabel tasks have them; "
                f"a task of {self.task} decides by its greatest output"
            )
        if self.task == "binary" and len(self.thresholds) > 1:
            raise ExportError(f"thresholds: a binary task expects 1, got {len(self.thresholds)}")
        for threshold in self.thresholds:
            if not (isinstance(threshold, Real) and 0 <= threshold <= 1):
                raise ExportError(f"thresholds: expected numbers in [0, 1], got {threshold!r}")

    def check_classes(self, shape: Sequence[int]) -> None:
        """Check the declaration against the output.

        Args:
            shape: Shape of the output without the batch axis.

        Raises:
            ExportError: The output does not fit the task, the labels or the thresholds.
        """
        if self.task is None:
            return
        if self.task == "binary":
            if tuple(shape) not in ((), (1,)):
                raise ExportError(
                    "task: a binary network gives one probability a row, of class 1: expected an "
                    f"output of shape [batch, 1] or [batch], got [batch, {_sizes(shape)}]"
                )
            return
        if len(shape) != 1:
            raise ExportError(
                f"task: a {self.task} network gives one probability a class: expected an output "
                f"of shape [batch, classes], got [batch{', ' if shape else ''}{_sizes(shape)}]"
            )
        classes = shape[0]
        if self.task == "multiclass" and classes < 2:
            raise ExportError(
                f"task: a multiclass network has at least 2 classes, got {classes}; "
                "for one probability declare it binary"
            )
        for name, given in (("labels", self.labels), ("thresholds", self.thresholds)):
            if given and len(given) != classes:
                raise ExportError(
                    f"{name}: the network has {classes} classes, got {len(given)} {name}"
                )

    def facts(self, classes: int) -> dict[str, Any]:
        """Return the task, the labels and the thresholds, those that there are, by these names.

        Args:
            classes: Number of elements that the output has for each row.
        """
        facts: dict[str, Any] = {}
        if self.task:
            facts["task"] = self.task
        if self.labels:
            facts["labels"] = list(self.labels)
        if self.task in ("binary", "multilabel"):
            facts["thresholds"] = [float(x) for x in self.thresholds] or [0.5] * classes
        return facts


def _listed(name: str, given: Any) -> tuple[Any, ...]:
    """Return a list, an array or the like as a tuple; a text, or what has no order, is refused."""
    if not isinstance(given, (str, Mapping, Set)):
        with suppress(TypeError):
            return tuple(given)
    raise ExportError(f"{name}: expected a list, got {given!r}")


def _sizes(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
