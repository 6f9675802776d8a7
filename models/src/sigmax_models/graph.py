"""Converts a torch module to an ONNX graph, without paths of this machine."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
import onnx
import torch
from google.protobuf.message import Message
from torch import nn

from sigmax_models.declaration import Activation
from sigmax_models.errors import ExportError

# Version of ONNX's operators; every ONNX Runtime since 1.17 has it.
OPSET = 20
# Name of the batch axis in the graph.
BATCH = "batch"

Rows = Mapping[str, np.ndarray]


class Served(nn.Module):
    """A network as it is served: a module, and the activation from logits to probabilities.

    Args:
        module: Module that takes its inputs by position and returns one tensor of shape
            [batch, ...].
        activation: Activation along the last axis; None to serve the module's output unchanged.
    """

    def __init__(self, module: nn.Module, activation: Activation | None) -> None:
        super().__init__()
        self.module = module
        self.activation = activation

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return probabilities of shape [batch, classes]; raw scores without an activation."""
        output: torch.Tensor = self.module(*inputs)
        if self.activation == "sigmoid":
            return torch.sigmoid(output)
        if self.activation == "softmax":
            return torch.softmax(output, dim=-1)
        return output


def build_graph(served: Served, example: Rows, output: str) -> onnx.ModelProto:
    """Trace a network with torch's exporter. The batch axis is variable.

    Args:
        served: Network in eval mode, on the CPU.
        example: Rows of each input by its name, in the order of `forward`, of shape
            [rows >= 2, ...].
        output: Name for the output.

    Raises:
        ExportError: torch cannot trace the module, or its number of rows cannot vary.
    """
    batch = torch.export.Dim(BATCH)
    try:
        with _quiet():
            program = torch.onnx.export(
                served,
                tuple(torch.from_numpy(rows) for rows in example.values()),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=list(example),
                output_names=[output],
                dynamic_shapes=(tuple({0: batch} for _ in example),),
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever its many stages raise
        raise ExportError(_explain(error)) from error
    assert program is not None, "torch.onnx.export(dynamo=True) returns a program. This is a bug."
    model = program.model_proto
    _strip(model)
    _check_interface(model, example, output)
    _check_last_step(model, served.activation)
    return model


def producer() -> str:
    """Return the versions of the exporting packages, as the JSON value of `sigmax.producer`."""
    names = ("sigmax-models", "torch", "onnx", "onnxscript")
    return json.dumps({**{name: version(name) for name in names}, "opset": str(OPSET)})


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress messages of the exporter that users can do nothing about."""
    logger = logging.getLogger("torch.onnx")  # reports optional packages that are missing
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The warning is about several inputs with one batch axis, which is intended.
            warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")
            yield
    finally:
        logger.setLevel(level)


def _explain(error: BaseException) -> str:
    """Return the innermost cause in three lines; the exporter's own message is pages long."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = str(error).strip() or type(error).__name__
    return f"torch cannot export this module: {' '.join(reason.splitlines()[:3])}"


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


def _check_interface(model: onnx.ModelProto, example: Rows, output: str) -> None:
    inputs = [value.name for value in model.graph.input]
    if inputs != list(example):
        raise ExportError(f"inputs: expected the graph to take {list(example)}, it takes {inputs}")
    outputs = [value.name for value in model.graph.output]
    if outputs != [output]:
        raise ExportError(f"expected a module that returns one tensor, it returns {len(outputs)}")
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].dim_param != BATCH:
            came = f"always {dims[0].dim_value}" if dims else "no axis at all"
            raise ExportError(
                f"no batch axis: expected the first axis of {value.name!r} to be the number of "
                f"rows, whatever it is, got {came}"
            )


def _check_last_step(model: onnx.ModelProto, activation: Activation | None) -> None:
    """Refuse a second activation, whose output would look like probabilities, too."""
    makers = {name: node for node in model.graph.node for name in node.output}
    last = makers.get(model.graph.output[0].name)
    before = makers.get(last.input[0]) if last is not None and last.input else None
    if activation and before is not None and before.op_type in ("Sigmoid", "Softmax"):
        raise ExportError(
            f"activation: the module already ends in {before.op_type}; "
            f"expected logits where {activation} is declared, or declare None"
        )
