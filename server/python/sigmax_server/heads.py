"""The heads of a model: the outputs that are classifications, checked against the graph."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sigmax_server.graph import ContradictionError, show
from sigmax_server.model_spec import Head, TensorSpec
from sigmax_server.stated import Stated, brief, numbers, texts
from sigmax_server.text import cut, shown

if TYPE_CHECKING:
    from sigmax_server._native import Task

MOST_HEADS = 64  # most heads of one model
_SINGLE = ("task", "labels", "thresholds", "output")  # keys of a model with one head
_MEMBERS = ("name", "output", "task", "labels", "thresholds")  # members of an entry of sigmax.heads


@dataclass(frozen=True)
class Filed:
    """The labels of an output that a label file names.

    Attributes:
        file: name of the file in the model's folder.
        labels: names of the classes, by index.
    """

    file: str
    labels: tuple[str, ...]


def heads(
    stated: Stated, outputs: Sequence[TensorSpec], filed: Mapping[str, Filed], *, batched: bool
) -> tuple[Head, ...]:
    """Return the heads that a model states, the default first; empty where it states none.

    Args:
        stated: values of the file and its configuration.
        outputs: outputs of the graph.
        filed: label files, by the names of outputs.
        batched: whether the model has a batch axis.

    Raises:
        ContradictionError: a head is malformed, or does not fit its output.
    """
    single = [key for key in _SINGLE if key in stated]
    if "heads" not in stated:
        if "task" not in stated:
            _refuse_without_task(stated)
            return ()
        members = {key: stated.json(key, None) for key in ("labels", "thresholds") if key in stated}
        members |= {key: stated[key] for key in ("task", "output") if key in stated}
        return (_Place("sigmax.", members, outputs, filed, batched).head(""),)
    if single:
        raise ContradictionError(
            f"sigmax.heads: expected it without sigmax.{single[0]}, because each head has its own"
        )
    entries = stated.json("heads", None)
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_HEADS:
        raise ContradictionError(
            f"sigmax.heads: expected a JSON list of 1 to {MOST_HEADS} heads, got {brief(entries)}"
        )
    made = tuple(
        _Place(f"sigmax.heads[{index}].", entry, outputs, filed, batched).named()
        for index, entry in enumerate(entries)
    )
    for name, count in Counter(head.name for head in made).items():
        if count > 1:
            raise ContradictionError(
                f"sigmax.heads: expected different names, got {shown(name)} twice"
            )
    return made


def _refuse_without_task(stated: Stated) -> None:
    """Refuse what only a task gives a meaning."""
    if labels := texts("sigmax.labels", stated.json("labels", [])):
        raise ContradictionError(
            f"sigmax.labels: there is no sigmax.task whose {len(labels)} classes they name"
        )
    if values := numbers("sigmax.thresholds", stated.json("thresholds", [])):
        raise ContradictionError(
            f"sigmax.thresholds: expected none, because sigmax.task is absent, got {len(values)}"
        )
    if "output" in stated:
        raise ContradictionError("sigmax.output: there is no sigmax.task that is about it")


@dataclass(frozen=True)
class _Place:
    """One head as it is stated, and what it must fit.

    Attributes:
        prefix: what messages put before the name of a member, such as "sigmax.heads[0].".
        members: values of the head by their names; anything, until it is checked.
        outputs: outputs of the graph.
        filed: label files, by the names of outputs.
        batched: whether the model has a batch axis.
    """

    prefix: str
    members: Any
    outputs: Sequence[TensorSpec]
    filed: Mapping[str, Filed]
    batched: bool

    def named(self) -> Head:
        """Return the head of an entry of sigmax.heads."""
        place = self.prefix.removesuffix(".")
        if not isinstance(self.members, dict):
            raise ContradictionError(f"{place}: expected a JSON object, got {brief(self.members)}")
        for key in self.members:
            if key not in _MEMBERS:
                known = ", ".join(_MEMBERS)
                raise ContradictionError(f"{place}: expected members {known}; got {shown(key)}")
        name = self.members.get("name")
        if not isinstance(name, str) or not name:
            raise ContradictionError(f"{self.prefix}name: expected a name, got {brief(name)}")
        return self.head(name)

    def head(self, name: str) -> Head:
        """Return the head under this name."""
        task = self._task()
        index = self._output()
        output = self.outputs[index]
        classes = self._classes(task, output)
        labels, source = self._labels(output)
        if labels and classes is not None and len(labels) != classes:
            raise ContradictionError(
                f"{source}: expected {classes}, because {self.prefix}task is {task} and the output "
                f"is {show(output)}, got {len(labels)}"
            )
        thresholds = self._thresholds(task, classes or len(labels))
        try:
            return Head(name=name, output=index, task=task, labels=labels, thresholds=thresholds)
        except ValueError as error:
            raise ContradictionError(f"{self.prefix}task is {task}: {error}") from None

    def _task(self) -> "Task":
        task = self.members.get("task")
        if task not in ("binary", "multiclass", "multilabel"):
            raise ContradictionError(
                f"{self.prefix}task: expected binary, multiclass or multilabel, got {shown(task)}"
            )
        return cast("Task", task)

    def _output(self) -> int:
        """Return the place of the output that the head is about; the first where it names none."""
        name = self.members.get("output")
        names = [output.name for output in self.outputs]
        if name is None:
            return 0
        if name not in names:
            raise ContradictionError(
                f"{self.prefix}output: expected one of the graph's outputs, "
                f"{cut(', '.join(names), 160)}; got {shown(name)}"
            )
        return names.index(name)

    def _classes(self, task: "Task", output: TensorSpec) -> int | None:
        """Return the number of the output's classes; None where the graph leaves it open."""
        if output.dtype not in ("FP16", "BF16", "FP32", "FP64"):
            raise ContradictionError(
                f"{self.prefix}task is {task}: expected an output of floating-point numbers, "
                f"got {show(output)}{self._other(output)}"
            )
        row = self._row(output)
        if task == "binary":
            if row is not None and (len(row) > 1 or row[-1:] not in ([], [1], [-1])):
                raise ContradictionError(
                    f"{self.prefix}task is binary: expected an output of one probability a row, "
                    f"[-1, 1] or [-1], got {show(output)}{self._other(output)}"
                )
            return 2
        if row is not None and (len(row) != 1 or (task == "multiclass" and row[-1] == 1)):
            raise ContradictionError(
                f"{self.prefix}task is {task}: expected an output of one probability a class, "
                f"[-1, classes], got {show(output)}{self._other(output)}"
            )
        return row[-1] if row and row[-1] != -1 else None

    def _row(self, output: TensorSpec) -> list[int] | None:
        """Return the sizes of one row of an output; None where the graph does not say them.

        Sizes of 1 at the end are left out, for networks of convolutions answer [-1, classes, 1, 1].
        """
        if output.any_rank:
            return None
        dims = list(output.dims)
        has_rows = self.batched or (dims[:1] == [1] and len(dims) > 1)
        # A model without rows classifies nothing, so that only its last size is checked.
        row = dims[1:] if has_rows else dims[-1:]
        while len(row) > 1 and row[-1] == 1:
            row.pop()
        return row

    def _other(self, output: TensorSpec) -> str:
        """Return the hint that another output may be meant; empty where there is no other."""
        if len(self.outputs) < 2 or self.members.get("output") is not None:
            return ""
        others = ", ".join(each.name for each in self.outputs if each is not output)
        return f"; {self.prefix}output can name another: {cut(others, 160)}"

    def _labels(self, output: TensorSpec) -> tuple[tuple[str, ...], str]:
        """Return the labels, and where they are from, for messages."""
        place = f"{self.prefix}labels"
        own = texts(place, self.members.get("labels", []))
        filed = self.filed.get(output.name)
        if filed is None:
            return own, place
        if "" in filed.labels or not filed.labels:
            line = filed.labels.index("") + 1 if filed.labels else 1
            raise ContradictionError(
                f"labels in {filed.file}: expected a name in each line, got none in line {line}"
            )
        if own and own != filed.labels:
            raise ContradictionError(
                f"{place}: expected those of the label file {shown(filed.file)}, "
                f"{shown(list(filed.labels))}, got {shown(list(own))}"
            )
        return filed.labels, place if own else f"labels in {filed.file}"

    def _thresholds(self, task: "Task", classes: int) -> tuple[float, ...]:
        """Return the task's thresholds; 0.5 where the head states none.

        Args:
            task: task of the head.
            classes: number of classes; 0 where neither the graph nor the labels tell it.
        """
        place = f"{self.prefix}thresholds"
        stated = "thresholds" in self.members
        values = numbers(place, self.members["thresholds"]) if stated else ()
        if task == "multiclass":
            if values:
                raise ContradictionError(
                    f"{place}: expected none, because {self.prefix}task is {task}, "
                    f"got {len(values)}"
                )
            return ()
        expected = 1 if task == "binary" else classes or len(values)
        if not expected:
            raise ContradictionError(
                f"{self.prefix}task is multilabel: expected labels, thresholds or an output that "
                "tell the number of classes, got none of them"
            )
        if stated and len(values) != expected:
            raise ContradictionError(
                f"{place}: expected {expected} because {self.prefix}task is {task}, "
                f"got {len(values)}"
            )
        return values or (0.5,) * expected
