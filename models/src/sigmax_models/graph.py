"""Converts a torch module to an ONNX graph, without paths of this machine."""

import json
import textwrap
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import onnx
import torch
from google.protobuf.message import Message
from onnx import TensorShapeProto, numpy_helper
from torch import nn

from sigmax_models.errors import ExportError
from sigmax_models.inputs import BATCH, Free, Rows
from sigmax_models.outputs import Output, parts

# Version of ONNX's operators; every ONNX Runtime since 1.17 has it.
OPSET = 20
# Most characters of torch's own message in an error.
MOST_SAID = 300


class Served(nn.Module):
    """A network as it is served: a module, and the activations from logits to probabilities.

    Outputs of bfloat16 become float32.

    Args:
        module: Module that returns a tensor of shape [batch, ...], or several.
        outputs: Outputs to serve.
        keywords: Names to pass the inputs by; none, to pass them by place.
    """

    def __init__(
        self, module: nn.Module, outputs: Sequence[Output], keywords: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.module = module
        self.outputs = tuple(outputs)
        self.keywords = tuple(keywords)

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return the outputs: probabilities [batch, classes], or scores; one without a tuple.

        Inputs are one argument, because torch 2.9 cannot export a forward of several `*inputs`.
        """
        found = parts(call(self.module, inputs, self.keywords))
        served = tuple(_activate(found[output.place][1], output) for output in self.outputs)
        return served if len(served) > 1 else served[0]


def call(module: nn.Module, inputs: Sequence[torch.Tensor], keywords: Sequence[str]) -> object:
    """Return what a module returns for inputs that are passed by name, or else by place."""
    if keywords:
        return module(**dict(zip(keywords, inputs, strict=True)))
    return module(*inputs)


def _activate(values: torch.Tensor, output: Output) -> torch.Tensor:
    if values.dtype is torch.bfloat16:
        values = values.float()
    if output.activation == "sigmoid":
        return torch.sigmoid(values)
    if output.activation == "softmax":
        return torch.softmax(values, dim=-1)
    return values


def build_graph(
    served: Served, example: Rows, free: Free | None = None, verbose: bool = False
) -> onnx.ModelProto:
    """Trace a network with torch's exporter. The batch axis is variable.

    Args:
        served: Network in eval mode, on the CPU.
        example: Rows of each input by its name, in the order of `forward`, of shape
            [rows >= 2, ...].
        free: Further axes that are variable.
        verbose: Whether torch says what it does.

    Raises:
        ExportError: torch cannot trace the module, or an axis cannot vary.
    """
    names = [{0: BATCH, **(free or {}).get(name, {})} for name in example]
    words = {word for axes in names for word in axes.values()}
    sizes = {word: torch.export.Dim(word) for word in words}
    torch.compiler.reset()  # an LSTM traced before keeps the length that it had then
    try:
        program = torch.onnx.export(
            served,
            (tuple(torch.from_numpy(rows) for rows in example.values()),),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=list(example),
            output_names=[output.name for output in served.outputs],
            dynamic_shapes=(tuple({a: sizes[word] for a, word in axes.items()} for axes in names),),
            verbose=verbose,
        )
    except Exception as error:  # the exporter raises whatever its many stages raise
        raise ExportError(_explain(error)) from error
    assert program is not None, "torch.onnx.export(dynamo=True) returns a program. This is a bug."
    model = program.model_proto
    _strip(model)
    _keep_batch(model)
    _check_interface(model, example, free or {}, [output.name for output in served.outputs])
    for output in served.outputs:
        _check_last_step(model, output)
    return model


def producer() -> str:
    """Return the versions of the exporting packages, as the JSON value of `sigmax.producer`."""
    names = ("sigmax-models", "torch", "onnx", "onnxscript")
    return json.dumps({**{name: version(name) for name in names}, "opset": str(OPSET)})


def _explain(error: BaseException) -> str:
    """Return the innermost cause in one line; the exporter's own message is pages long."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = str(error).strip() or type(error).__name__
    said = textwrap.shorten(reason, MOST_SAID, placeholder=" ...")
    return f"torch cannot export this module: {said} (verbose=True or --verbose shows all)"


def _strip(message: Message) -> None:
    """Clear every metadata_props and doc_string, where torch writes stack traces with paths."""
    for descriptor, value in list(message.ListFields()):
        if descriptor.name in ("metadata_props", "doc_string"):
            message.ClearField(descriptor.name)
        elif isinstance(value, Message):
            _strip(value)
        elif descriptor.message_type is not None:
            for item in value:
                _strip(item)


def _keep_batch(model: onnx.ModelProto) -> None:
    """Let no Squeeze drop the batch axis of a single row.

    torch's `squeeze()` without an axis becomes an operator that drops every axis which has size 1
    when it runs. Here it drops those that have this size in every run.
    """
    shapes = {value.name: value.type for value in (*model.graph.value_info, *model.graph.input)}
    for number, node in enumerate(model.graph.node):
        if node.op_type == "Squeeze" and len(node.input) == 1 and node.input[0] in shapes:
            dims = shapes[node.input[0]].tensor_type.shape.dim
            axes = [axis for axis, dim in enumerate(dims) if dim.dim_value == 1]
            if not axes:  # an empty list of axes would stand for all of them
                node.op_type = "Identity"
                continue
            name = f"squeezed_axes_{number}"
            model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), name))
            node.input.append(name)


def _check_interface(
    model: onnx.ModelProto, example: Rows, free: Free, output_names: list[str]
) -> None:
    inputs = [value.name for value in model.graph.input]
    if inputs != list(example):
        raise ExportError(f"inputs: expected the graph to take {list(example)}, it takes {inputs}")
    outputs = [value.name for value in model.graph.output]
    if outputs != output_names:
        raise ExportError(f"output: expected a graph that returns {output_names}, got {outputs}")
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].dim_param != BATCH:
            raise ExportError(
                f"no batch axis: expected the first axis of {value.name!r} to be the number of "
                f"rows, whatever it is, got {_say_size(dims[0]) if dims else 'no axis at all'}"
            )
    for value in model.graph.input:
        for axis, word in free.get(value.name, {}).items():
            dim = value.type.tensor_type.shape.dim[axis]
            if dim.dim_param != word:
                raise ExportError(
                    f"dynamic: expected axis {axis} of {value.name!r} to be free, "
                    f"got {_say_size(dim)}"
                )


def _say_size(dim: TensorShapeProto.Dimension) -> str:
    return dim.dim_param or f"always {dim.dim_value}"


def _check_last_step(model: onnx.ModelProto, output: Output) -> None:
    """Refuse a second activation, whose output would look like probabilities, too."""
    makers = {name: node for node in model.graph.node for name in node.output}
    last = makers.get(output.name)
    before = makers.get(last.input[0]) if last is not None and last.input else None
    if output.activation and before is not None and before.op_type in ("Sigmoid", "Softmax"):
        raise ExportError(
            f"activation: the module already ends in {before.op_type}; "
            f"expected logits where {output.activation} is declared, or declare None"
        )
