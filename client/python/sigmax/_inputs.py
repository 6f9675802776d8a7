"""Reading of a caller's values as the inputs that a model's description names."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from numpy.typing import ArrayLike

from sigmax import _tensor
from sigmax._errors import InvalidInput
from sigmax._model import Model, TensorSpec

Inputs: TypeAlias = ArrayLike | Mapping[str, ArrayLike]
"""Values of one row or of a batch: lists, arrays, or any object with `__array__`.

Values of a model with several inputs are a dict of them by name.
"""


def read(model: Model, inputs: Inputs) -> tuple[list[_tensor.Array], bool]:
    """Read the values of every input, and tell whether they are one row.

    A value with as many axes as the model's input is a batch; a value with one axis fewer is one
    row. A model without a batch axis has one row where the first size of its inputs is 1. A text
    for an input of UTF-8 bytes counts as an array of one axis, of the row's size.

    Args:
        model: Description of the model, which the inputs must fit.
        inputs: Values of the only input, or of every input by its name.

    Returns:
        An array for each input, in the order of the description; and True where the inputs are one
        row without a batch axis.

    Raises:
        InvalidInput: A name, a shape or a value does not fit the description.
    """
    values = _by_name(model, inputs)
    arrays = [_read(model, spec, values[spec.name]) for spec in model.inputs]
    return arrays, _is_one_row(model, arrays)


def to_bytes(model: Model, spec: TensorSpec, array: _tensor.Array) -> bytes:
    """Encode one input as both services take it.

    Raises:
        InvalidInput: A conversion to the model's dtype would change a value (`_tensor.convert`).
    """
    try:
        return _tensor.to_bytes(array, spec.dtype)
    except ValueError as error:
        raise _bad(model, spec, "data", "BAD_ELEMENT", str(error)) from error


def convert(model: Model, spec: TensorSpec, array: _tensor.Array) -> _tensor.Array:
    """Convert one input to the elements that the model takes, in an array of the same shape.

    Raises:
        InvalidInput: The conversion would change a value (`_tensor.convert`).
    """
    try:
        return _tensor.convert(array, spec.dtype)
    except ValueError as error:
        raise _bad(model, spec, "data", "BAD_ELEMENT", str(error)) from error


def shape_of(array: _tensor.Array, single: bool) -> tuple[int, ...]:
    """Return the shape of an input in a request, which has the batch axis that one row lacks."""
    return (1, *array.shape) if single else array.shape


def quoted(names: Iterable[str]) -> str:
    """Return names for a message: 'a', 'b'."""
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def _by_name(model: Model, inputs: Inputs) -> Mapping[str, ArrayLike]:
    if not isinstance(inputs, Mapping) and len(model.inputs) == 1:
        return {model.inputs[0].name: inputs}
    expected = [spec.name for spec in model.inputs]
    if not isinstance(inputs, Mapping):
        raise InvalidInput.in_field(
            "inputs",
            "MISSING_INPUT",
            f"model '{model.name}' expects a dict of the inputs {quoted(expected)}; got one value",
        )
    if set(inputs) != set(expected):
        unexpected = set(inputs) - set(expected)
        raise InvalidInput.in_field(
            "inputs",
            "UNEXPECTED_INPUT" if unexpected else "MISSING_INPUT",
            f"model '{model.name}' expects the inputs {quoted(expected)}; got {quoted(inputs)}",
        )
    return inputs


def _read(model: Model, spec: TensorSpec, value: ArrayLike) -> _tensor.Array:
    try:
        if spec.dtype == "BYTES":
            return _tensor.read_texts(value)
        if spec.encoding == "utf-8" and _tensor.holds_texts(value):
            size = spec.shape[-1] if spec.shape else -1
            return _tensor.pad_texts(_tensor.read_texts(value), size)
        return _tensor.read(value)
    except ValueError as error:
        raise _bad(model, spec, "data", "BAD_ELEMENT", str(error)) from error


def _is_one_row(model: Model, arrays: list[_tensor.Array]) -> bool:
    """Return whether all inputs lack the batch axis; raise where a shape fits neither way."""
    if len(arrays) == 1:
        return _lacks_batch_axis(model, model.inputs[0], arrays[0])
    kinds = {
        spec.name: _lacks_batch_axis(model, spec, array)
        for spec, array in zip(model.inputs, arrays, strict=True)
    }
    if len(set(kinds.values())) > 1:
        rows = [name for name, one_row in kinds.items() if one_row]
        raise InvalidInput.in_field(
            "inputs",
            "BATCH_SIZE_MISMATCH",
            f"model '{model.name}' expects one row of every input, or a batch of every input; "
            f"got one row of {quoted(rows)} only",
        )
    return all(kinds.values())


def _lacks_batch_axis(model: Model, spec: TensorSpec, array: _tensor.Array) -> bool:
    if spec.any_rank or _fits(spec.shape, array.shape):
        return False
    has_batch_axis = model.max_batch_size > 0 or spec.shape[:1] == (1,)
    if has_batch_axis and _fits(spec.shape[1:], array.shape):
        return True
    or_row = f", or {list(spec.shape[1:])} for one row" if has_batch_axis else ""
    raise _bad(
        model,
        spec,
        "shape",
        "SHAPE_MISMATCH",
        f"expected shape {list(spec.shape)}{or_row}; got {list(array.shape)}",
    )


def _fits(expected: tuple[int, ...], found: tuple[int, ...]) -> bool:
    if len(expected) != len(found):
        return False
    for e, f in zip(expected, found, strict=True):  # noqa: SIM110 - all() takes twice the time
        if e not in (f, -1):
            return False
    return True


def _bad(model: Model, spec: TensorSpec, part: str, reason: str, detail: str) -> InvalidInput:
    return InvalidInput.in_field(
        f"inputs[{spec.name}].{part}",
        reason,
        f"input '{spec.name}' of model '{model.name}': {detail}",
    )
