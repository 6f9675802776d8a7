"""Completes a model's configuration from the metadata and the graph of its file.

docs/model-format.md describes the metadata. A model whose metadata and graph contradict each other
is refused, and the message names both.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from sigmax_server import model_config
from sigmax_server.config import ModelSpec, TensorSpec
from sigmax_server.device import Choice
from sigmax_server.graph import ContradictionError, Opened, Tensor, show
from sigmax_server.repository import Found
from sigmax_server.text import cut, shown

if TYPE_CHECKING:
    from sigmax_server._native import Task

_MOST_TEXT = 16 * 2**20  # most characters of one entry of the metadata


def describe(opened: Opened, found: Found, max_batch_size: int, choice: Choice) -> ModelSpec:
    """Complete the configuration of a model.

    A file without any `sigmax.*` metadata is served raw, without a task. A model has a batch axis
    where the first size of every input and output is variable, unless its configuration says
    otherwise.

    Args:
        opened: graph and metadata of the file.
        found: the version as it was found, with its configuration.
        max_batch_size: most rows of one request, for a model with a batch axis whose configuration
            does not name it.
        choice: devices that the model runs on.

    Raises:
        ContradictionError: metadata or configuration are malformed, or do not fit the graph.
    """
    stated = {
        key.removeprefix("sigmax."): value
        for key, value in opened.metadata.items()
        if key.startswith("sigmax.")
    }
    if stated and stated.get("format") != "1":
        raise ContradictionError(
            f"sigmax.format: expected 1, got {cut(stated.get('format', 'none'))}"
        )
    for key, value in stated.items():
        if len(value) > _MOST_TEXT:
            raise ContradictionError(
                f"sigmax.{key}: expected at most {_MOST_TEXT} characters, got {len(value)}"
            )
    config = found.config
    most_rows = model_config.batch_size(config, opened, max_batch_size)
    inputs, outputs = model_config.tensors(config, opened, batched=most_rows > 0)
    task = _task(stated)
    labels = _labels(stated, task, found.labels.get(outputs[0].name, ()))
    classes = _classes(task, outputs[0], most_rows > 0) if task else None
    _check_labels(task, labels, classes, outputs[0])
    meanings = _meanings(stated, inputs)
    inputs = tuple(replace(each, meaning=meanings.get(each.name, "")) for each in inputs)
    named = {outputs[0].name: labels, **found.labels}
    outputs = tuple(replace(each, labels=named.get(each.name, ())) for each in outputs)
    file = found.file.name if found.file else ""
    try:
        return ModelSpec(
            name=found.name,
            version=found.version,
            max_batch_size=most_rows,
            inputs=inputs,
            outputs=outputs,
            config=model_config.complete(config, found.name, file, most_rows, inputs, outputs),
            task=task,
            labels=labels,
            thresholds=_thresholds(stated, task, classes or len(labels)),
            tolerance=_tolerance(stated),
            golden=tuple(str(folder) for folder in found.golden),
            batching=model_config.batching(config, most_rows),
            placements=choice.placements,
            device_reason=choice.reason,
        )
    except ValueError as error:
        raise ContradictionError(str(error)) from None


def _classes(task: "Task", output: Tensor, batched: bool) -> int | None:
    """Return the number of the output's classes; None where the graph leaves it open."""
    if output.dtype not in ("FP16", "BF16", "FP32", "FP64"):
        raise ContradictionError(
            f"sigmax.task is {task}: expected a first output of floating-point numbers, "
            f"got {show(output)}"
        )
    row = list(output.dims[1:] if batched else output.dims)
    # A model without a batch axis classifies nothing, so that only its last size is checked.
    rank = len(row) if batched else min(len(row), 1)
    if task == "binary":
        if rank > 1 or row[-1:] not in ([], [1], [-1]):
            raise ContradictionError(
                "sigmax.task is binary: expected a first output of one probability a row, "
                f"[-1, 1] or [-1], got {show(output)}"
            )
        return 2
    if rank != 1 or (task == "multiclass" and row[-1] == 1):
        raise ContradictionError(
            f"sigmax.task is {task}: expected a first output of one probability a class, "
            f"[-1, classes], got {show(output)}"
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
            f"{show(output)}, got {len(labels)}"
        )


def _thresholds(stated: Mapping[str, str], task: "Task | None", classes: int) -> tuple[float, ...]:
    """Return the task's thresholds; 0.5 where the file names none.

    Args:
        stated: metadata of the file.
        task: task of the model.
        classes: number of classes; 0 where neither the graph nor the labels tell it.
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
            f"sigmax.task: expected binary, multiclass or multilabel, got {shown(task)}"
        )
    return cast("Task | None", task)


def _labels(
    stated: Mapping[str, str], task: "Task | None", filed: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the task's labels, from the metadata or from the configuration's label file."""
    own = _names(stated)
    if task and own and filed and own != filed:
        raise ContradictionError(
            f"sigmax.labels: expected those of the label file, {shown(list(filed))}, "
            f"got {shown(list(own))}"
        )
    return own or (filed if task else ())


def _names(stated: Mapping[str, str]) -> tuple[str, ...]:
    value = _json(stated, "labels", "[]")
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ContradictionError(
            f"sigmax.labels: expected a JSON list of strings, got {cut(stated['labels'])}"
        )
    return tuple(value)


def _numbers(stated: Mapping[str, str]) -> list[float]:
    value = _json(stated, "thresholds", "[]")
    if not isinstance(value, list) or not all(_is_number(number) for number in value):
        raise ContradictionError(
            f"sigmax.thresholds: expected a JSON list of numbers, got {cut(stated['thresholds'])}"
        )
    return [_float(number) for number in value]


def _meanings(stated: Mapping[str, str], inputs: Sequence[TensorSpec]) -> dict[str, str]:
    value = _json(stated, "inputs", "{}")
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ContradictionError(
            f"sigmax.inputs: expected a JSON object of strings, got {cut(stated['inputs'])}"
        )
    names = [tensor.name for tensor in inputs]
    for name in value:
        if name not in names:
            raise ContradictionError(
                f"sigmax.inputs: expected the graph's inputs, {cut(', '.join(names), 160)}, "
                f"got {shown(name)}"
            )
    return value


def _tolerance(stated: Mapping[str, str]) -> float:
    value = _json(stated, "tolerance", "1e-5")
    if not _is_number(value):
        raise ContradictionError(
            f"sigmax.tolerance: expected a number, got {cut(stated['tolerance'])}"
        )
    return _float(value)


def _json(stated: Mapping[str, str], key: str, default: str) -> Any:
    text = stated.get(key, default)
    try:
        value = json.loads(text)
        # JSON can hold a lone surrogate, which no UTF-8 text can.
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ContradictionError(
            f"sigmax.{key}: expected text, got a lone surrogate in {shown(text)}"
        ) from None
    except RecursionError:
        raise ContradictionError(
            f"sigmax.{key}: expected JSON that is not nested so deep, got {shown(text)}"
        ) from None
    except ValueError as error:
        raise ContradictionError(
            f"sigmax.{key}: expected JSON, got {shown(text)} ({error})"
        ) from None
    return value


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
