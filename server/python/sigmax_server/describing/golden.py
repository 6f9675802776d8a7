"""Golden samples from a file of rows: what a model must answer wherever it is served."""

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper

from sigmax_server.describing.edit import FLOATS
from sigmax_server.graph import ContradictionError
from sigmax_server.text import cut, shown

_BF16 = onnx.TensorProto.BFLOAT16
_MOST_ROWS = 64  # most rows of a golden sample


def inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Return the inputs that a request gives: those without a value of the graph's own."""
    weights = {each.name for each in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in weights]


def read_rows(path: Path, model: ModelProto) -> dict[str, np.ndarray]:
    """Read the arrays of a .npz file: every input by its name, and outputs that are known.

    Numbers are converted to the graph's type, where it holds them. Of batches of more than 64 rows
    the first 64 are taken.

    Raises:
        ContradictionError: the file cannot be read, lacks an input, or has an array that is
            neither an input nor an output, or has no row or no value of the type.
    """
    arrays = _read(path)
    needed = [each.name for each in inputs(model)]
    known = {each.name: each for each in (*inputs(model), *model.graph.output)}
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
    return {name: _taken(path, known[name], array) for name, array in arrays.items()}


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("got a single array without a name")
        with archive:
            return dict(archive.items())
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise ContradictionError(
            f"--golden {path}: expected a .npz file of arrays by their names: {reason}"
        ) from None


def _taken(path: Path, value: ValueInfoProto, array: np.ndarray) -> np.ndarray:
    """Return an array of the file in the graph's type, cut to a few rows where it has rows."""
    if array.size == 0:
        raise ContradictionError(
            f"--golden {path}: expected at least one row of {shown(value.name)}, got the shape "
            f"{list(array.shape)}"
        )
    tensor = value.type.tensor_type
    is_fixed = tensor.HasField("shape") and (
        not tensor.shape.dim or tensor.shape.dim[0].HasField("dim_value")
    )
    if not is_fixed and array.ndim:
        array = array[:_MOST_ROWS]
    return _converted(path, value, array)


def _converted(path: Path, value: ValueInfoProto, array: np.ndarray) -> np.ndarray:
    """Return an array in the graph's type; a ContradictionError where that does not hold it."""
    element = value.type.tensor_type.elem_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(element))
    if array.dtype == dtype or (element == onnx.TensorProto.STRING and array.dtype.kind == "U"):
        return array
    is_float = element in FLOATS and array.dtype.kind == "f"
    if is_float or (dtype.kind not in "bO" and array.dtype.kind in "iu"):
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
        if np.isfinite(converted).all() if is_float else (converted == array).all():
            return converted
    name = onnx.TensorProto.DataType.Name(element)
    raise ContradictionError(
        f"--golden {path}: expected values of {shown(value.name)} that {name} can hold, got "
        f"{array.dtype}{list(array.shape)}"
    )


def answers(model: ModelProto, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return an array for every output: those given, and what ONNX Runtime answers for the rest.

    Raises:
        ContradictionError: ONNX Runtime does not take the rows.
    """
    import onnxruntime  # type: ignore[import-untyped]

    outputs = [each.name for each in model.graph.output]
    tensors = (*inputs(model), *model.graph.output)
    given = {each.name: arrays[each.name] for each in inputs(model)}
    if all(name in arrays for name in outputs):
        return {name: arrays[name] for name in outputs}
    if names := [each.name for each in tensors if each.type.tensor_type.elem_type == _BF16]:
        raise ContradictionError(
            f"--golden: expected an array for every output, because {shown(names[0])} is BFLOAT16, "
            "which ONNX Runtime does not give to Python"
        )
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        came = session.run(outputs, given)
    except Exception as error:  # ONNX Runtime has a class of its own for each status
        raise ContradictionError(
            f"--golden: ONNX Runtime does not run these rows: {error}"
        ) from None
    return {name: arrays.get(name, answer) for name, answer in zip(outputs, came, strict=True)}


def write_sample(
    folder: Path, given: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
) -> None:
    """Write a sample as the ONNX project's test data: `input_0.pb`, ..., `output_0.pb`, ..."""
    folder.mkdir()
    for kind, tensors in (("input", given), ("output", outputs)):
        for number, (name, array) in enumerate(tensors.items()):
            tensor: onnx.TensorProto = numpy_helper.from_array(array, name)
            (folder / f"{kind}_{number}.pb").write_bytes(tensor.SerializeToString())
