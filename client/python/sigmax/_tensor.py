"""Conversion of values to the elements that a model takes, and back."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

# NumPy has no BF16. An element of BF16 is the upper 16 bits of an FP32.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_NATIVE = {name: dtype.newbyteorder("=") for name, dtype in DTYPES.items()}
_NUMBERS = "biuf"  # kinds of NumPy's dtypes: booleans, integers, unsigned integers, floats


def read(value: ArrayLike) -> Array:
    """Read lists, NumPy arrays or anything with `__array__` as an array of numbers.

    Tensors of PyTorch may be of bfloat16, need a gradient or lie on a GPU. Arrays of objects, such
    as those of data frames, may hold any numbers.

    Raises:
        ValueError: The value is ragged, or holds something other than booleans, integers of at
            most 64 bits and floats.
    """
    if type(value) is np.ndarray and value.dtype.kind in _NUMBERS:
        return value
    try:
        array = np.asarray(value if isinstance(value, np.ndarray) else _without_torch(value))
        if isinstance(value, list | tuple) and _hides_integers(array):
            array = _read_integers(value, array)
        elif array.dtype == object:
            array = _read_objects(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"expected an array of numbers, or lists of equal length: {error}"
        ) from error
    if array.dtype.name == "bfloat16":  # the type that packages beside NumPy agree on
        array = array.astype(np.float32)
    if array.dtype.kind not in _NUMBERS:
        raise ValueError(f"expected numbers of at most 64 bits, got elements of {array.dtype}")
    return array


def read_texts(value: ArrayLike) -> Array:
    """Read lists or arrays of str or bytes as an array of bytes objects; str becomes UTF-8.

    Raises:
        ValueError: The value is ragged, or holds something other than str and bytes.
    """
    array = np.asarray(value, dtype=object)
    result = np.empty(array.shape, object)
    for place, element in np.ndenumerate(array):
        if not isinstance(element, str | bytes):
            raise ValueError(
                f"expected texts or bytes, or lists of equal length of them, "
                f"got {element!r} at {list(place)}"
            )
        result[place] = element.encode() if isinstance(element, str) else bytes(element)
    return result


def holds_texts(value: ArrayLike) -> bool:
    """Return whether a value, or the first element of a list or an array, is a str or bytes."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    if isinstance(value, str | bytes):
        return True
    if isinstance(value, list | tuple | int | float):
        return False
    array = np.asarray(value, dtype=object)
    return array.size > 0 and isinstance(array.flat[0], str | bytes)


def pad_texts(texts: Array, size: int) -> Array:
    """Write each text of an array from `read_texts` into a row of bytes, with zeros to its end.

    Args:
        texts: Texts in UTF-8, as bytes objects, of any shape.
        size: Bytes of a row.

    Returns:
        An array of UINT8 of the shape [*texts.shape, size].

    Raises:
        ValueError: A text is longer than a row, or is not UTF-8.
    """
    if size < 0:
        raise ValueError(f"expected an input of rows of a fixed size, got the size {size}")
    result = np.zeros((*texts.shape, size), np.uint8)
    for place, text in np.ndenumerate(texts):
        text.decode()  # raises UnicodeDecodeError, a ValueError, that says what is wrong where
        if len(text) > size:
            raise ValueError(
                f"expected texts of at most {size} bytes in UTF-8, got {len(text)} bytes"
                + (f" at {list(place)}" if place else "")
                + "; give a shorter text, for texts are never cut"
            )
        result[place][: len(text)] = np.frombuffer(text, np.uint8)
    return result


def to_bytes(array: Array, dtype: str) -> bytes:
    """Encode a tensor of a request as the protocol defines it.

    Elements of BYTES, from `read_texts`, each follow their length in 4 bytes, little-endian.
    Elements of any other dtype are as `convert` returns them.

    Raises:
        ValueError: A value would change, or the dtype is unknown, as in `convert`.
    """
    if dtype == "BYTES":
        return b"".join(len(text).to_bytes(4, "little") + text for text in array.flat)
    return convert(array, dtype).tobytes()


def convert(array: Array, dtype: str) -> Array:
    """Convert an array to a model's dtype: little-endian elements in row-major order.

    A conversion that would change a value is refused:

    - To an integer dtype, every value must be a whole number within its range; to BOOL, 0 or 1.
    - From integers to a floating-point dtype, every value must be represented exactly
      (16,777,217 is refused as FP32).
    - From floats to a floating-point dtype, values are rounded to nearest even, as any literal
      such as 0.1 is (to BF16 by way of FP32). NaN and infinities stay what they are; a finite
      value that would become infinite is refused.

    Args:
        array: Booleans, integers or floats, of any shape.
        dtype: Name of the dtype: "BOOL", "UINT8" ... "INT64", "FP16", "BF16", "FP32" or "FP64".

    Returns:
        An array of the same shape; BF16 is returned as the 16 bits of each element.

    Raises:
        ValueError: The dtype is unknown, or a value would change; the message names the first such
            value and its place.
    """
    if dtype not in DTYPES:
        raise ValueError(f"expected a dtype of {', '.join(DTYPES)}; the model says {dtype}")
    if array.dtype == DTYPES[dtype] and dtype != "BF16":
        return np.ascontiguousarray(array).reshape(array.shape)
    with np.errstate(all="ignore"):  # values that a cast changes are found and refused below
        if dtype == "BF16":
            wire = _to_bfloat16(array.astype(np.float32))
            changed = _changed_as_float(array, _from_bfloat16(wire))
        elif dtype in ("FP16", "FP32", "FP64"):
            wire = array.astype(DTYPES[dtype])
            changed = _changed_as_float(array, wire)
        else:
            wire = array.astype(DTYPES[dtype])
            changed = _changed_as_whole(array, wire.dtype)
    if changed.any():
        where = tuple(int(i) for i in np.argwhere(changed)[0])
        raise ValueError(
            f"expected values that {dtype} can hold unchanged, got {array[where]} at {list(where)}"
        )
    return np.ascontiguousarray(wire).reshape(array.shape)


def from_bytes(raw: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """Decode a tensor of an answer. The array is a copy, so the caller may write to it.

    Args:
        raw: Little-endian elements in row-major order; those of BYTES as `to_bytes` writes them.
        dtype: Name of the dtype, such as "FP32". BF16 is returned as float32, and BYTES as an array
            of bytes objects.
        shape: Size of each axis.

    Raises:
        ValueError: The dtype is unknown, or the bytes do not fit the shape.
    """
    if shape and min(shape) < 0:
        raise ValueError(f"expected sizes of 0 or more, got the shape {list(shape)}")
    if dtype == "BYTES":
        return _split_texts(raw, shape)
    if dtype not in DTYPES:
        raise ValueError(f"expected a dtype of {', '.join(DTYPES)} or BYTES, got {dtype}")
    array = np.frombuffer(raw, DTYPES[dtype]).reshape(shape)
    return _from_bfloat16(array) if dtype == "BF16" else array.astype(_NATIVE[dtype])


def _split_texts(raw: bytes, shape: tuple[int, ...]) -> Array:
    texts = []
    position = 0
    while position < len(raw):
        start = position + 4
        position = start + int.from_bytes(raw[position:start], "little")
        texts.append(raw[start:position])
    if position != len(raw) or len(texts) != math.prod(shape):
        raise ValueError(f"expected {math.prod(shape)} texts for the shape {list(shape)}")
    array = np.empty(len(texts), object)
    array[:] = texts
    return array.reshape(shape)


def _without_torch(value: Any) -> Any:
    """Return tensors of PyTorch, and lists of them, as tensors that NumPy can read."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return value.float() if str(value.dtype) == "torch.bfloat16" else value
    first = value
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return [_without_torch(each) for each in value] if hasattr(first, "detach") else value


def _read_objects(array: Array) -> Array:
    """Read an array of numbers as objects. Raise ValueError where one is no number, or changes."""
    numbers = (int, float, np.bool_, np.integer, np.floating)
    for place, element in np.ndenumerate(array):
        if not isinstance(element, numbers):
            raise ValueError(f"got {element!r} at {list(place)}")
    result = np.asarray(array.tolist())
    if _hides_integers(result):
        result = _read_integers(array, result)
    if result.dtype.kind == "f":
        for place, element in np.ndenumerate(array):
            if isinstance(element, int | np.integer) and int(element) != float(result[place]):
                raise ValueError(f"{element} at {list(place)} is beside floats, and would change")
    return result


def _hides_integers(array: Array) -> bool:
    # NumPy reads integers below and above 2**63 in one list as floats, which drop digits.
    return array.dtype == np.float64 and bool((np.abs(array) >= 2.0**63).any())


def _read_integers(value: ArrayLike, as_floats: Array) -> Array:
    elements = np.asarray(value, dtype=object)
    if not all(isinstance(element, int | np.integer) for element in elements.flat):
        return as_floats
    if min(elements.flat) < 0:
        raise ValueError("no integer type of 64 bits holds both the lowest and the highest")
    return elements.astype(np.uint64)


def _changed_as_whole(array: Array, target: np.dtype[Any]) -> NDArray[np.bool_]:
    """Mark the values that are no whole number in the range of an integer dtype or BOOL."""
    low, high = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    if array.dtype.kind == "b":
        return np.zeros(array.shape, np.bool_)
    if array.dtype.kind == "f":
        # The bounds are powers of two, or 0, and so exact in FP64. NaN fails every comparison.
        wide = array.astype(np.result_type(array, np.float64))
        inside = (wide >= float(low)) & (wide < float(high + 1)) & (np.trunc(wide) == wide)
        return np.asarray(~inside)
    source = np.iinfo(array.dtype)
    outside = (array < max(low, source.min)) | (array > min(high, source.max))
    return np.asarray(outside)


def _changed_as_float(array: Array, result: Array) -> NDArray[np.bool_]:
    """Mark integers that are not represented exactly, and finite values that became infinite."""
    if array.dtype.kind == "b":
        return np.zeros(array.shape, np.bool_)
    if array.dtype.kind == "f":
        return np.asarray(np.isfinite(array) & ~np.isfinite(result))
    wide = result.astype(np.float64)
    outside = _changed_as_whole(wide, array.dtype)  # casting these back would wrap around
    return np.asarray(outside | (wide.astype(array.dtype) != array))


def _to_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round FP32 to its upper 16 bits, to nearest even; NaN stays NaN."""
    bits = np.atleast_1d(array).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = (bits >> 16) | 0x40
    return (
        np.where(np.isnan(np.atleast_1d(array)), quiet, rounded).astype("<u2").reshape(array.shape)
    )


def _from_bfloat16(array: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (np.atleast_1d(array).astype(np.uint32) << 16).view(np.float32).reshape(array.shape)
