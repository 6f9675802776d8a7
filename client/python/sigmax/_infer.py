"""Requests and answers of ModelInfer of the Open Inference Protocol, for models without a task.

Nothing in this module sends or waits.
"""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from sigmax import _inputs, _tensor
from sigmax import inference_pb2 as pb
from sigmax._errors import ServerFault
from sigmax._inputs import Inputs
from sigmax._model import Model


def encode(
    name: str, version: str, model: Model, inputs: Inputs, outputs: Sequence[str]
) -> tuple[pb.ModelInferRequest, bool]:
    """Build the request for `inputs`, and tell whether they are one row.

    Args:
        name: Name of the model.
        version: Version as a decimal number; empty for the newest that is ready.
        model: Description of the model, which the inputs must fit.
        inputs: Values of the only input, or of every input by its name (`_inputs.read`).
        outputs: Names of the outputs to return; empty for all.

    Raises:
        InvalidInput: A name, a shape or a value does not fit the description.
    """
    arrays, single = _inputs.read(model, inputs)
    pairs = list(zip(model.inputs, arrays, strict=True))
    request = pb.ModelInferRequest(
        model_name=name,
        model_version=version,
        inputs=[
            pb.ModelInferRequest.InferInputTensor(
                name=spec.name, datatype=spec.dtype, shape=_inputs.shape_of(array, single)
            )
            for spec, array in pairs
        ],
        outputs=[
            pb.ModelInferRequest.InferRequestedOutputTensor(name=output) for output in outputs
        ],
        raw_input_contents=[_inputs.to_bytes(model, spec, array) for spec, array in pairs],
    )
    return request, single


def decode(
    response: pb.ModelInferResponse, outputs: Sequence[str], single: bool
) -> dict[str, NDArray[Any]]:
    """Build the arrays by the names of the outputs.

    Args:
        response: The server's answer.
        outputs: Names of the outputs that were asked for; empty for all.
        single: Whether the request's inputs were one row without a batch axis. The outputs then
            lose theirs, too.

    Raises:
        ServerFault: The answer is malformed, or not one to that request.
    """
    if len(response.outputs) != len(response.raw_output_contents):
        raise ServerFault.malformed(
            f"expected raw contents of {len(response.outputs)} outputs, "
            f"got {len(response.raw_output_contents)}"
        )
    arrays = {}
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        try:
            array = _tensor.from_bytes(raw, output.datatype, tuple(output.shape))
        except ValueError as error:
            raise ServerFault.malformed(f"output '{output.name}': {error}") from error
        lacks_axis = single and array.shape[:1] == (1,)
        arrays[output.name] = array.reshape(array.shape[1:]) if lacks_axis else array
    if outputs and set(arrays) != set(outputs):
        raise ServerFault.malformed(
            f"expected the outputs {_inputs.quoted(outputs)}, got {_inputs.quoted(arrays)}"
        )
    return arrays
