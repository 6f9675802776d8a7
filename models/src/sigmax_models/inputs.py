"""The rows that an export works with: the given ones, named, in the module's dtype, and enough."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sigmax_models.errors import ExportError, ExportNotice
from sigmax_models.modules import dtype_of

# Rows of each input, [rows, ...], by its name.
Rows = Mapping[str, np.ndarray]
# Names of the free axes of each input: by the input's name, by the axis (the batch is axis 0).
Free = Mapping[str, Mapping[int, str]]

# Name of the batch axis in the graph.
BATCH = "batch"


def as_rows(example: Any, module: nn.Module) -> dict[str, np.ndarray]:
    """Return the example as rows of each input by its name.

    Rows of float64, NumPy's default, are converted to the dtype of the module's weights, and those
    of bfloat16 to float32; a notice says so.

    Args:
        example: Arrays or tensors by the input's name, in the order of `forward`; or a tuple of
            them, or one alone, which get the names that `forward` has for them.
        module: Module that takes the rows.

    Raises:
        ExportError: There are no rows, or not as many of each input.
    """
    named = _by_name(example, module)
    if not named:
        raise ExportError("example: expected at least one input, got none")
    rows = {name: _as_array(name, value, dtype_of(module)) for name, value in named.items()}
    for name, array in rows.items():
        if array.ndim == 0 or len(array) == 0:
            raise ExportError(
                f"example: expected {name!r} of shape [rows >= 1, ...], got {list(array.shape)}"
            )
    counts = {name: len(array) for name, array in rows.items()}
    if len(set(counts.values())) > 1:
        raise ExportError(f"example: expected as many rows of every input, got {counts}")
    return rows


def keywords(module: nn.Module, names: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names to pass inputs by; none, to pass them by place.

    Inputs are passed by name where `forward` has a parameter for each, whatever their order.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {parameter.name for parameter in parameters if parameter.kind in kinds}
    return tuple(names) if known.issuperset(names) else ()


def check_free(free: Free, rows: Rows) -> None:
    """Check the names of free axes against the rows.

    Raises:
        ExportError: There is no such input or axis, a name is none, or axes of one name differ.
    """
    sizes: dict[str, int] = {}
    for name, axes in free.items():
        if name not in rows:
            raise ExportError(f"dynamic: no input is named {name!r}, only {list(rows)}")
        for axis, word in axes.items():
            shape = rows[name].shape
            if not 1 <= axis < len(shape):
                raise ExportError(
                    f"dynamic: expected an axis of {name!r} from 1 to {len(shape) - 1} "
                    f"(the batch, 0, is always free), got {axis}"
                )
            if not isinstance(word, str) or not word.isidentifier() or word == BATCH:
                raise ExportError(
                    f"dynamic: expected a name such as 'length' for axis {axis} of {name!r}, "
                    f"not {BATCH!r}, got {word!r}"
                )
            size = sizes.setdefault(word, shape[axis])
            if shape[axis] != size:
                raise ExportError(
                    f"dynamic: expected the example to have one size for {word!r}, "
                    f"got {size} and {shape[axis]}"
                )
            if size < 2:
                raise ExportError(
                    f"dynamic: expected an example of at least 2 along {word!r}, got {size}"
                )


def shorten(rows: Rows, free: Free) -> dict[str, np.ndarray]:
    """Return the rows with each free axis cut to half, rounded up."""
    short = dict(rows)
    for name, axes in free.items():
        for axis in axes:
            half = -(-rows[name].shape[axis] // 2)
            short[name] = np.ascontiguousarray(np.take(short[name], range(half), axis))
    return short


def many_rows(rows: Rows, count: int, texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Cut the rows to `count`, or add rows made from the given ones.

    Each element of an added row is taken from the same place of a random given row. Elements of
    floating-point inputs are changed by at most a tenth. Invented values could be indices out of
    range.

    Args:
        rows: Rows of each input by its name.
        count: Number of rows to return.
        texts: Names of the inputs whose rows are texts, which are repeated as a whole.
    """
    chance = np.random.default_rng(0)
    filled = {}
    for name, array in rows.items():
        shape = (max(0, count - len(array)), *array.shape[1:])
        if name in texts:
            filled[name] = np.resize(array, (count, *array.shape[1:]))
            continue
        source = chance.integers(len(array), size=shape)
        more = np.take_along_axis(array, source, axis=0)
        if np.issubdtype(array.dtype, np.floating):
            more = (more * chance.uniform(0.9, 1.1, shape)).astype(array.dtype)
        filled[name] = np.ascontiguousarray(np.concatenate([array[:count], more]))
    return filled


def take(rows: Rows, start: int, stop: int) -> dict[str, np.ndarray]:
    """Return the rows from `start` to `stop` of every input."""
    return {name: array[start:stop] for name, array in rows.items()}


def _by_name(example: Any, module: nn.Module) -> dict[str, Any]:
    if isinstance(example, Mapping):
        return dict(example)
    given = example if isinstance(example, tuple) else (example,)
    names = list(inspect.signature(module.forward).parameters.values())[: len(given)]
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in names):
        if len(given) == 1:
            return {"input": given[0]}
        raise ExportError(
            "example: forward has no names for its inputs: expected a dict of arrays by name"
        )
    if len(names) < len(given):
        raise ExportError(f"example: forward takes {len(names)} inputs, got {len(given)} arrays")
    return {each.name: value for each, value in zip(names, given, strict=True)}


def _as_array(name: str, value: Any, wanted: torch.dtype) -> np.ndarray:
    """Return the rows of an input, with floats of 64 bits in the dtype of the module's weights."""
    try:
        tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(_native(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ExportError(f"example: expected numbers in {name!r}: {error}") from error
    given = tensor.dtype
    if given is torch.bfloat16:
        tensor = tensor.float()
    elif given is torch.float64:
        tensor = tensor.to(wanted)
    if tensor.dtype is not given:
        warnings.warn(
            f"rows of {name!r} are {say(given)}, and were converted to {say(tensor.dtype)}",
            ExportNotice,
            stacklevel=2,
        )
    return tensor.detach().cpu().numpy()


def _native(value: Any) -> Any:
    """Return an array as torch takes it, in this machine's byte order; anything else as it is."""
    if not hasattr(value, "__array__"):
        return value
    array = np.asarray(value)
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def say(dtype: torch.dtype) -> str:
    """Return the name of a dtype, such as float32."""
    return str(dtype).removeprefix("torch.")
