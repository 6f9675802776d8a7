"""Completes a model's configuration from the metadata and the graph of its file.

docs/model-format.md describes the metadata. A model whose metadata and graph contradict each other
is refused, and the message names both.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sigmax_server import model_config
from sigmax_server.device import Choice
from sigmax_server.graph import ContradictionError, Opened, show
from sigmax_server.heads import Filed, heads
from sigmax_server.model_spec import Head, ModelSpec, TensorSpec
from sigmax_server.repository import Found
from sigmax_server.stated import Stated, brief
from sigmax_server.text import cut, shown


def describe(opened: Opened, found: Found, max_batch_size: int, choice: Choice) -> ModelSpec:
    """Complete the configuration of a model.

    A model without any `sigmax.*` value is served raw, without a task. A model has a batch axis
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
    config = found.config
    stated = Stated(opened.metadata, config)
    classifies = "task" in stated or "heads" in stated
    most_rows = model_config.batch_size(config, opened, max_batch_size, classifies=classifies)
    inputs, outputs = model_config.tensors(config, opened, batched=most_rows > 0)
    files = {each.get("name"): each.get("label_filename") for each in config.get("output", ())}
    filed = {name: Filed(files.get(name) or "", each) for name, each in found.labels.items()}
    classifying = heads(stated, outputs, filed, batched=most_rows > 0)
    inputs = _explained(stated, inputs)
    outputs = _labelled(outputs, classifying, filed)
    file = found.file.name if found.file else ""
    without = "" if most_rows or not classifying else _without_rows(inputs, outputs)
    try:
        return ModelSpec(
            name=found.name,
            version=found.version,
            max_batch_size=most_rows,
            inputs=inputs,
            outputs=outputs,
            config=model_config.complete(config, found.name, file, most_rows, inputs, outputs),
            heads=classifying,
            rows_independent=stated.rows_independent(),
            tolerance=stated.tolerance(),
            golden=tuple(str(folder) for folder in found.golden),
            batching=model_config.batching(config, most_rows),
            placements=choice.placements,
            device_reason=choice.reason,
            warnings=_warnings(classifying, without),
        )
    except ValueError as error:
        raise ContradictionError(str(error)) from None


def _labelled(
    outputs: Sequence[TensorSpec], classifying: Sequence[Head], filed: dict[str, Filed]
) -> tuple[TensorSpec, ...]:
    """Return the outputs with the labels of their label files, else of their first heads."""
    of_heads = {head.output: head.labels for head in reversed(classifying)}
    return tuple(
        replace(
            output,
            labels=filed[output.name].labels if output.name in filed else of_heads.get(index, ()),
        )
        for index, output in enumerate(outputs)
    )


def _warnings(classifying: Sequence[Head], without_rows: str) -> tuple[str, ...]:
    """Return why Classify is refused, and the heads with two classes of one name, as ImageNet."""
    warnings = [without_rows] if without_rows else []
    for head in classifying:
        shared = [label for label, count in Counter(head.labels).items() if count > 1]
        if shared:
            of_head = f"head {shown(head.name)}: " if head.name else ""
            warnings.append(
                f"{of_head}classes share the labels {shown(shared)}: only their indices tell them "
                "apart"
            )
    return tuple(warnings)


def _without_rows(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """Return why a model with a task refuses every Classify; empty where it takes one row."""
    if all(each.dims[:1] == (1,) for each in inputs):
        return ""
    first = next(
        (each for each in (*inputs, *outputs) if each.any_rank or each.dims[:1] != (-1,)), inputs[0]
    )
    return (
        f"Classify is refused, because the model has no rows: {show(first)}; expected a first "
        "size that is variable in every input and output, or 1 in every one; dims in config.pbtxt "
        "need max_batch_size beside them"
    )


def _explained(stated: Stated, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the inputs with the meanings and encodings that sigmax.inputs states."""
    value = stated.json("inputs", {})
    if not isinstance(value, dict):
        raise ContradictionError(f"sigmax.inputs: expected a JSON object, got {brief(value)}")
    names = [tensor.name for tensor in inputs]
    for name in value:
        if name not in names:
            raise ContradictionError(
                f"sigmax.inputs: expected the graph's inputs, {cut(', '.join(names), 160)}, "
                f"got {shown(name)}"
            )
    return tuple(
        _explained_input(each, value[each.name]) if each.name in value else each for each in inputs
    )


def _explained_input(tensor: TensorSpec, value: object) -> TensorSpec:
    place = f"sigmax.inputs[{shown(tensor.name)}]"
    members = {"meaning": value} if isinstance(value, str) else value
    if not isinstance(members, dict) or not all(isinstance(it, str) for it in members.values()):
        raise ContradictionError(
            f"{place}: expected a string or a JSON object of strings, got {brief(value)}"
        )
    for key in members:
        if key not in ("meaning", "encoding"):
            raise ContradictionError(f"{place}: expected meaning or encoding, got {shown(key)}")
    encoding = members.get("encoding", "")
    if encoding not in ("", "utf-8"):
        raise ContradictionError(f"{place}.encoding: expected utf-8, got {shown(encoding)}")
    if encoding and (tensor.dtype != "UINT8" or len(tensor.dims) != 2 or tensor.dims[1] < 1):
        raise ContradictionError(
            f"{place}.encoding is {encoding}: expected an input of bytes with a fixed length, "
            f"UINT8[-1, length], got {show(tensor)}"
        )
    return replace(tensor, meaning=members.get("meaning", ""), encoding=encoding)
