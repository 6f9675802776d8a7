"""Golden samples from a file of rows: what a model must answer wherever it is served."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, numpy_helper

from sigmax_server.graph import ContradictionError
from sigmax_server.text import cut, shown

_MOST_ROWS = 64  # most rows of a golden sample


def inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Return the inputs that a request gives: those without a value of the graph's own."""
    weights = {each.name for each in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in weights]


def read_rows(path: Path, model: ModelProto) -> dict[str, np.ndarray]:
    """Read the arrays of a .npz file: every input by its name, and outputs that are known.

    Raises:
        ContradictionError: the file cannot be read, lacks an input, or has an array that is
            neither an input nor an output.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive.items())
    except (OSError, ValueError, AttributeError) as error:
        raise ContradictionError(
            f"--golden {path}: expected a .npz file of arrays: {error}"
        ) from None
    needed = [each.name for each in inputs(model)]
    known = [*needed, *(each.name for each in model.graph.output)]
    if missing := [name for name in needed if name not in arrays]:
        raise ContradictionError(
            f"--golden {path}: expected an array for every input, got none for "
            f"{cut(', '.join(missing))}"
        )
    for name in arrays:
        if name not in known:
            raise ContradictionError(
                f"--golden {path}: expected arrays named {cut(', '.join(known), 160)}; "
                f"got {shown(name)}"
            )
    return {name: array[:_MOST_ROWS] for name, array in arrays.items()}


def answers(model: ModelProto, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return an array for every output: those given, and what ONNX Runtime answers for the rest.

    Raises:
        ContradictionError: ONNX Runtime does not take the rows.
    """
    import onnxruntime  # type: ignore[import-untyped]

    outputs = [each.name for each in model.graph.output]
    given = {each.name: arrays[each.name] for each in inputs(model)}
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        came = session.run(outputs, given)
    except Exception as error:  # ONNX Runtime has a class of its own for each status
        raise ContradictionError(
            f"--golden: ONNX Runtime does not run these rows: {error}"
        ) from None
    return {
        name: arrays[name].astype(answer.dtype) if name in arrays else answer
        for name, answer in zip(outputs, came, strict=True)
    }


def write_sample(
    folder: Path, given: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
) -> None:
    """Write a sample as the ONNX project's test data: `input_0.pb`, ..., `output_0.pb`, ..."""
    folder.mkdir()
    for kind, tensors in (("input", given), ("output", outputs)):
        for number, (name, array) in enumerate(tensors.items()):
            tensor: onnx.TensorProto = numpy_helper.from_array(array, name)
            (folder / f"{kind}_{number}.pb").write_bytes(tensor.SerializeToString())
