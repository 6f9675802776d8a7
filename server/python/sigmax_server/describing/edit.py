"""Changes of an ONNX model that make it describe itself: activation, ZipMap, metadata."""

import json
from collections.abc import Mapping, Sequence

import onnx
from onnx import ModelProto, ValueInfoProto, helper

from sigmax_server.graph import ContradictionError
from sigmax_server.text import shown

# Name of an output of probabilities that an activation makes.
_PROBABILITIES = "probabilities"
FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
)


def take_out_zip_maps(model: ModelProto) -> dict[str, tuple[str, ...]]:
    """Remove every ZipMap, so that its input, a tensor of all probabilities, is the output.

    Converters of scikit-learn, XGBoost and LightGBM end a classifier in a ZipMap, which makes one
    map from class to probability for each row. No tensor can hold that.

    Args:
        model: model to change.

    Returns:
        The class names that each ZipMap knew, by the name that its output keeps.
    """
    labels = {}
    kept = []
    for node in model.graph.node:
        if node.op_type != "ZipMap":
            kept.append(node)
            continue
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        texts = attributes.get("classlabels_strings", ())
        numbers = attributes.get("classlabels_int64s", ())
        labels[node.output[0]] = (*(text.decode() for text in texts), *map(str, numbers))
        kept.append(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
    if labels:
        del model.graph.node[:]
        model.graph.node.extend(kept)
    for output in model.graph.output:
        if output.name in labels:
            count = len(labels[output.name])
            tensor = helper.make_tensor_value_info(
                output.name, _element(model, output.name), ["batch", count]
            )
            output.CopyFrom(tensor)
    return labels


def _element(model: ModelProto, name: str) -> int:
    """Return the type of the probabilities that a ZipMap named; float where nothing says it."""
    sources = {node.output[0]: node.input[0] for node in model.graph.node if node.output}
    for value in model.graph.value_info:
        if value.name == sources.get(name):
            return int(value.type.tensor_type.elem_type)
    return int(onnx.TensorProto.FLOAT)


def classified_output(model: ModelProto, asked: str | None) -> ValueInfoProto:
    """Return the output that the task is about.

    Args:
        model: model with the outputs.
        asked: name of the output; None: the only output of floating-point numbers.

    Raises:
        ContradictionError: there is no output of that name, or not exactly one to choose.
    """
    outputs = list(model.graph.output)
    names = ", ".join(output.name for output in outputs)
    if asked is not None:
        for output in outputs:
            if output.name == asked:
                return output
        raise ContradictionError(f"--output: expected one of {names}; got {shown(asked)}")
    floats = [each for each in outputs if each.type.tensor_type.elem_type in FLOATS]
    if len(floats) == 1:
        return floats[0]
    raise ContradictionError(
        f"--output: expected the output that the task is about, one of {names}; got none"
    )


def add_activation(model: ModelProto, output: ValueInfoProto, activation: str) -> str:
    """Make an output probabilities, by a Softmax over the classes or a Sigmoid of each score.

    Args:
        model: model to change.
        output: output of raw scores, [rows, classes] or [rows]; it is replaced.
        activation: "softmax" or "sigmoid".

    Returns:
        The name of the output of probabilities.

    Raises:
        ContradictionError: the output is already made by such a step.
    """
    operator = {"softmax": "Softmax", "sigmoid": "Sigmoid"}[activation]
    scores = output.name
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    if makers.get(scores) in ("Softmax", "Sigmoid"):
        raise ContradictionError(
            f"--activation: expected an output of raw scores, {scores!r} is made by "
            f"{makers[scores]}"
        )
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*model.graph.input, *model.graph.output)}
    name = _free(_PROBABILITIES, taken)
    step = helper.make_node(operator, [scores], [name])
    if activation == "softmax":
        # The classes are the second axis of two, for every version of Softmax.
        step.attribute.append(helper.make_attribute("axis", 1))
    model.graph.node.append(step)
    output.name = name
    if not any(each.domain in ("", "ai.onnx") for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", 13))
    return name


def _free(name: str, taken: set[str]) -> str:
    """Return the name, with a number behind it where it is taken."""
    number = 0
    free = name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def state(model: ModelProto, values: Mapping[str, object], without: Sequence[str] = ()) -> None:
    """Write `sigmax.*` values into a model's metadata; texts as they are, the rest as JSON.

    Args:
        model: model to change.
        values: values by their keys, without the prefix.
        without: keys to remove.
    """
    stated = {each.key: each.value for each in model.metadata_props}
    for key in without:
        stated.pop(f"sigmax.{key}", None)
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        stated[f"sigmax.{key}"] = text
    del model.metadata_props[:]
    helper.set_model_props(model, stated)
