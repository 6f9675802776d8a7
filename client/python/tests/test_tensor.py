"""Values are converted to exactly what a model takes, or refused."""

import math
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sigmax import _tensor

INTEGERS = {f"{sign}INT{bits}": (sign, bits) for sign in ("", "U") for bits in (8, 16, 32, 64)}
# Bits of significand, largest finite value.
FLOATS = {
    "FP16": (11, 65504.0),
    "BF16": (8, float.fromhex("0x1.FEp127")),
    "FP32": (24, float.fromhex("0x1.FFFFFEp127")),
    "FP64": (53, float.fromhex("0x1.FFFFFFFFFFFFFp1023")),
}
NATIVE = [d for d in [*INTEGERS, *FLOATS, "BOOL"] if d != "BF16"]
integers = st.one_of(
    st.integers(-300, 300),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([2**n + d for n in (8, 11, 16, 24, 31, 32, 53, 63) for d in (-1, 0, 1)]),
)
floats = st.one_of(st.floats(), st.floats(width=32), st.floats(width=16), integers.map(float))


def sent(values: Any, dtype: str) -> _tensor.Array:
    array = _tensor.convert(_tensor.read(values), dtype)
    return _tensor.from_bytes(array.tobytes(), dtype, array.shape)


def bounds(dtype: str) -> tuple[int, int]:
    if dtype == "BOOL":
        return 0, 1
    sign, bits = INTEGERS[dtype]
    return (0, 2**bits - 1) if sign == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@given(st.lists(integers, min_size=1, max_size=4), st.sampled_from([*INTEGERS, "BOOL"]))
def test_integers_arrive_as_they_are_or_not_at_all(values: list[int], dtype: str) -> None:
    low, high = bounds(dtype)
    if all(low <= value <= high for value in values):
        assert sent(values, dtype).tolist() == values
    else:
        with pytest.raises(
            ValueError, match=f"{dtype} can hold unchanged|no integer type of 64 bits"
        ):
            sent(values, dtype)


@given(floats, st.sampled_from([*INTEGERS, "BOOL"]))
def test_floats_become_integers_only_where_they_are_whole_and_fit(value: float, dtype: str) -> None:
    low, high = bounds(dtype)
    if math.isfinite(value) and value == int(value) and low <= int(value) <= high:
        assert sent([value], dtype).tolist() == [int(value)]
    else:
        with pytest.raises(ValueError, match=rf"expected values that {dtype} can hold unchanged"):
            sent([value], dtype)


@given(integers, st.sampled_from([*FLOATS]))
def test_integers_become_floats_only_where_they_are_exact(value: int, dtype: str) -> None:
    significand, largest = FLOATS[dtype]
    odd = abs(value) // (abs(value) & -abs(value)) if value else 0
    if odd.bit_length() <= significand and abs(value) <= largest:
        assert sent([value], dtype).tolist() == [value]
    else:
        with pytest.raises(ValueError, match=rf"expected values that {dtype} can hold unchanged"):
            sent([value], dtype)


@given(floats, st.sampled_from([("FP16", "<e"), ("FP32", "<f"), ("FP64", "<d")]))
def test_floats_are_rounded_to_the_nearest(value: float, form: tuple[str, str]) -> None:
    dtype, code = form
    try:
        expected = struct.pack(code, value)
    except OverflowError:
        with pytest.raises(ValueError, match=f"{dtype} can hold"):
            sent([value], dtype)
        return
    array = _tensor.convert(_tensor.read([value]), dtype)
    assert array.tobytes() == expected or (math.isnan(value) and np.isnan(array).all())


@given(st.floats(width=32))
def test_bfloat16_is_the_nearest_and_even_on_a_tie(value: float) -> None:
    if math.isfinite(value) and abs(value) >= float.fromhex("0x1.FFp127"):
        with pytest.raises(ValueError, match="BF16 can hold"):
            sent([value], "BF16")
        return
    wire = int(_tensor.convert(_tensor.read([value]), "BF16")[0])
    got = float(sent([value], "BF16")[0])
    if not math.isfinite(value):
        assert got == value or (math.isnan(got) and math.isnan(value))
        return
    assert math.copysign(1, got) == math.copysign(1, value)
    for neighbour in (wire - 1, wire + 1):
        if wire & 0x7FFF == 0 and neighbour < wire:
            continue  # below zero's bits lies the other sign
        other = struct.unpack("<f", struct.pack("<I", (neighbour & 0xFFFF) << 16))[0]
        assume(math.isfinite(other))
        off, other_off = (abs(Fraction(value) - Fraction(x)) for x in (got, other))
        assert off < other_off or (off == other_off and wire % 2 == 0)


@given(
    st.sampled_from(NATIVE).flatmap(
        lambda dtype: st.tuples(
            st.just(dtype),
            hnp.arrays(_tensor.DTYPES[dtype], hnp.array_shapes(min_dims=0, min_side=0)),
        )
    )
)
def test_an_array_of_the_dtype_arrives_bit_for_bit(case: tuple[str, Any]) -> None:
    dtype, array = case
    got = sent(array, dtype)
    assert got.shape == array.shape
    assert got.tobytes() == array.tobytes()
    got[...] = 0  # the caller's to change


def test_the_message_names_the_first_value_that_would_change() -> None:
    with pytest.raises(
        ValueError, match=r"expected values that UINT8 can hold .*got 300 at \[1, 0\]"
    ):
        sent([[1, 2], [300, -1]], "UINT8")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([[1, 2], [3]], "lists of equal length"),
        (["a"], "numbers"),
        ([None], "numbers"),
        ([1j], "numbers"),
        ([2**64], "64 bits"),
        ([-1, 2**63], "no integer type of 64 bits holds both"),
    ],
)
def test_what_is_no_numbers_is_refused(values: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _tensor.read(values)


def test_unknown_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="the model says 14"):
        _tensor.convert(np.zeros(1), "14")


def test_layout_and_byte_order_do_not_matter() -> None:
    array = np.arange(6, dtype=">i2").reshape(2, 3).T
    wire = _tensor.convert(array, "INT16")
    assert wire.tobytes() == np.array([0, 3, 1, 4, 2, 5], "<i2").tobytes()


class Tensor:
    """Offers `__array__`, as tensors of PyTorch do."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array([1.0, 2.0], dtype)


def test_anything_with_an_array_inside_is_read() -> None:
    assert sent(Tensor(), "FP32").tolist() == [1, 2]
    assert sent([Tensor(), Tensor()], "FP32").tolist() == [[1, 2], [1, 2]]
