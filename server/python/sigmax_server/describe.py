"""Completes a model's configuration from what its file says of itself.

The file's metadata is described in docs/model-format.md. Where metadata and graph contradict
each other the model is refused, and the message names both.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from sigmax_server.config import ModelSpec
from sigmax_server.repository import Found

if TYPE_CHECKING:
    from sigmax_server._native import DType, Task


class Tensor(Protocol):
    """An input or output, as the graph declares it."""

    @property
    def name(self) -> str:
        """Its name in the graph."""

    @property
    def dtype(self) -> "DType":
        """The type of its elements."""

    @property
    def dims(self) -> Sequence[int]:
        """Its sizes, the batch axis included where there is one; -1: any."""


class Opened(Protocol):
    """A model file that has been opened: what `describe` needs of `_native.OpenedModel`."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """In the graph's order."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """In the graph's order; a task is about the first."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's own key-value metadata."""


class ContradictionError(Exception):
    """What a file says of itself is wrong, or contradicts its graph; the message names both."""


def describe(opened: Opened, found: Found, max_batch_size: int) -> ModelSpec:
    """Complete the configuration of a model.

    A file without any `sigmax.*` metadata is served raw, without a task. A model has a batch
    axis where the first size of every input and output is variable.

    Args:
        opened: the file's graph and metadata.
        found: where it was found.
        max_batch_size: most rows of one request, where the model has a batch axis.

    Raises:
        ContradictionError: the metadata is malformed, or does not fit the graph.
    """
    stated = {
        key.removeprefix("sigmax."): value
        for key, value in opened.metadata.items()
        if key.startswith("sigmax.")
    }
    if stated and stated.get("format") != "1":
        raise ContradictionError(f"sigmax.format: expected 1, got {stated.get('format', 'none')}")
    batched = all(_is_batched(tensor) for tensor in (*opened.inputs, *opened.outputs))
    task = _task(stated)
    labels = _names(stated)
    classes = _classes(task, opened.outputs[0], batched) if task else None
    _check_labels(task, labels, classes, opened.outputs[0])
    try:
        return ModelSpec(
            name=found.name,
            version=found.version,
            max_batch_size=max_batch_size if batched else 0,
            task=task,
            labels=labels,
            thresholds=_thresholds(stated, task, classes or len(labels)),
            meanings=_meanings(stated, opened),
            tolerance=_tolerance(stated),
            golden=tuple(str(folder) for folder in found.golden),
        )
    except ValueError as error:
        raise ContradictionError(str(error)) from None


def _is_batched(tensor: Tensor) -> bool:
    return len(tensor.dims) > 0 and tensor.dims[0] == -1


def _classes(task: "Task", output: Tensor, batched: bool) -> int | None:
    """How many classes the output tells apart; None where the graph leaves that open."""
    if output.dtype not in ("FP16", "BF16", "FP32", "FP64"):
        raise ContradictionError(
            f"sigmax.task is {task}: expected a first output of floating-point numbers, "
            f"got {_show(output)}"
        )
    row = list(output.dims[1:] if batched else output.dims)
    # Without a batch axis nothing is classified; the last size alone is compared.
    rank = len(row) if batched else min(len(row), 1)
    if task == "binary":
        if rank > 1 or row[-1:] not in ([], [1], [-1]):
            raise ContradictionError(
                "sigmax.task is binary: expected a first output of one probability a row, "
                f"[-1, 1] or [-1], got {_show(output)}"
            )
        return 2
    if rank != 1 or (task == "multiclass" and row[-1] == 1):
        raise ContradictionError(
            f"sigmax.task is {task}: expected a first output of one probability a class, "
            f"[-1, classes], got {_show(output)}"
        )
    return row[-1] if row[-1] != -1 else None


def _check_labels(
    task: "Task | None", labels: Sequence[str], classes: int | None, output: Tensor
) -> None:
    if labels and task is None:
        raise ContradictionError("sigmax.labels: there is no sigmax.task whose classes they name")
    if labels and classes is not None and len(labels) != classes:
        raise ContradictionError(
            f"sigmax.labels: expected {classes}, because sigmax.task is {task} and the output is "
            f"{_show(output)}, got {len(labels)}"
        )


def _thresholds(stated: Mapping[str, str], task: "Task | None", classes: int) -> tuple[float, ...]:
    """The task's thresholds; 0.5 where the file names none.

    `classes` is 0 where neither graph nor labels tell.
    """
    values = tuple(_numbers(stated)) if "thresholds" in stated else None
    if task not in ("binary", "multilabel"):
        if values:
            raise ContradictionError(
                f"sigmax.thresholds: expected none, because sigmax.task is {task or 'absent'}, "
                f"got {len(values)}"
            )
        return ()
    expected = 1 if task == "binary" else classes or len(values or ())
    if not expected:
        raise ContradictionError(
            "sigmax.task is multilabel: expected labels, thresholds or an output that tell the "
            "number of classes, got none of them"
        )
    if values is not None and len(values) != expected:
        raise ContradictionError(
            f"sigmax.thresholds: expected {expected} because sigmax.task is {task}, "
            f"got {len(values)}"
        )
    return values or (0.5,) * expected


def _task(stated: Mapping[str, str]) -> "Task | None":
    task = stated.get("task")
    if task not in (None, "binary", "multiclass", "multilabel"):
        raise ContradictionError(
            f"sigmax.task: expected binary, multiclass or multilabel, got {task!r}"
        )
    return cast("Task | None", task)


def _names(stated: Mapping[str, str]) -> tuple[str, ...]:
    value = _json(stated, "labels", "[]")
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ContradictionError(
            f"sigmax.labels: expected a JSON list of strings, got {stated['labels']}"
        )
    return tuple(value)


def _numbers(stated: Mapping[str, str]) -> list[float]:
    value = _json(stated, "thresholds", "[]")
    if not isinstance(value, list) or not all(_is_number(number) for number in value):
        raise ContradictionError(
            f"sigmax.thresholds: expected a JSON list of numbers, got {stated['thresholds']}"
        )
    return [float(number) for number in value]


def _meanings(stated: Mapping[str, str], opened: Opened) -> dict[str, str]:
    value = _json(stated, "inputs", "{}")
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ContradictionError(
            f"sigmax.inputs: expected a JSON object of strings, got {stated['inputs']}"
        )
    names = [tensor.name for tensor in opened.inputs]
    for name in value:
        if name not in names:
            raise ContradictionError(
                f"sigmax.inputs: expected the graph's inputs, {', '.join(names)}, got {name!r}"
            )
    return value


def _tolerance(stated: Mapping[str, str]) -> float:
    value = _json(stated, "tolerance", "1e-5")
    if not _is_number(value):
        raise ContradictionError(f"sigmax.tolerance: expected a number, got {stated['tolerance']}")
    return float(value)


def _json(stated: Mapping[str, str], key: str, default: str) -> Any:
    try:
        return json.loads(stated.get(key, default))
    except ValueError as error:
        raise ContradictionError(
            f"sigmax.{key}: expected JSON, got {stated[key]!r} ({error})"
        ) from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(tensor: Tensor) -> str:
    return f"{tensor.name!r} {tensor.dtype}{list(tensor.dims)}"
