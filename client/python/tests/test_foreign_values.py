"""Values of other libraries, as their callers have them, and texts for inputs of UTF-8 bytes."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sigmax import InvalidInput, Model, TensorSpec, _inputs, _tensor


def sent(value: Any, dtype: str = "FP32") -> list[Any]:
    """What of a value goes to a model of this dtype."""
    array = _tensor.convert(_tensor.read(value), dtype)
    values: list[Any] = _tensor.from_bytes(array.tobytes(), dtype, array.shape).tolist()
    return values


BRAIN = [[1.5, -2.0, 2.0**-100], [0.0, 3.0, 1e30]]


def test_tensors_of_bfloat16() -> None:
    tensor = torch.tensor(BRAIN, dtype=torch.bfloat16)
    exact = tensor.float().numpy().tolist()
    assert sent(tensor) == exact
    assert sent(tensor, "BF16") == exact
    assert sent([tensor[0], tensor[1]]) == exact
    assert sent([[row[0], row[1], row[2]] for row in tensor]) == exact


def test_tensors_that_need_a_gradient() -> None:
    tensor = torch.tensor([[1.0, 2.0]], requires_grad=True)
    with warnings.catch_warnings(action="error"):
        assert sent(tensor) == [[1, 2]]
        assert sent(tensor * 2) == [[2, 4]]
        assert sent([tensor[0], tensor[0]]) == [[1, 2], [1, 2]]
        assert sent((tensor[0, 0], tensor[0, 1])) == [1, 2]
        assert sent(tensor.bfloat16()) == [[1, 2]]


def test_tensors_that_are_no_numbers_are_refused() -> None:
    for tensor in (torch.tensor([1j]), torch.eye(2).to_sparse(), torch.empty(2, device="meta")):
        with pytest.raises(ValueError, match="expected"):
            _tensor.read(tensor)


def test_data_frames() -> None:
    mixed = pd.DataFrame({"mass": [1.5, 2.0], "legs": [4, 2], "fur": [True, False]})
    assert np.asarray(mixed).dtype == object
    assert sent(mixed) == [[1.5, 4, 1], [2, 2, 0]]
    whole = pd.DataFrame({"a": [1, 2], "b": [2**63, 2**64 - 1]}, dtype=object)
    assert sent(whole, "UINT64") == [[1, 2**63], [2, 2**64 - 1]]
    assert sent(pd.DataFrame({"a": [1, 2]}, dtype="Int64"), "INT8") == [[1], [2]]
    assert sent(pd.Series([0.5, 1], dtype=object)) == [0.5, 1]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, None], r"got None at \[1\]"),
        ([1, pd.NA], r"got <NA> at \[1\]"),
        (["a", 1], r"got 'a' at \[0\]"),
        ([2**53 + 1, 0.5], r"9007199254740993 at \[0\] is beside floats, and would change"),
        ([2**64, 1], "64 bits"),
        ([-1, 2**63], "no integer type"),
    ],
)
def test_objects_that_are_no_numbers_or_do_not_fit(values: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _tensor.read(pd.Series(values, dtype=object))


TEXT = Model(
    name="language",
    version="1",
    versions=(),
    inputs=(TensorSpec("text", "UINT8", (-1, 8), "", "utf-8"),),
    outputs=(),
    task="multiclass",
    labels=(),
    thresholds=(),
    device="cpu",
    max_batch_size=64,
    preferred_batch_size=1,
    rows_independent=True,
    device_reason="",
)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_texts_are_padded_with_zeros_or_refused_whole(texts: list[str]) -> None:
    encoded = [text.encode() for text in texts]
    if any(len(each) > 8 for each in encoded):
        with pytest.raises(InvalidInput, match="expected texts of at most 8 bytes in UTF-8, got"):
            _inputs.read(TEXT, texts)
        return
    [array], single = _inputs.read(TEXT, texts)
    assert (array.shape, single) == ((len(texts), 8), False)
    assert array.tobytes() == b"".join(each.ljust(8, b"\0") for each in encoded)
    assert _inputs.to_bytes(TEXT, TEXT.inputs[0], array) == array.tobytes()
    [row], single = _inputs.read(TEXT, texts[0])
    assert (row.tolist(), single) == (array[0].tolist(), True)


@pytest.mark.parametrize(
    "values",
    [
        ("fish", "fowl"),
        np.array(["fish", "fowl"]),
        np.array(["fish", "fowl"], object),
        np.array(["fish", "fowl"], np.dtypes.StringDType()),
        np.array([b"fish", b"fowl"]),
        [b"fish", "fowl"],
        pd.Series(["fish", "fowl"]),
        {"text": ["fish", "fowl"]},
        np.frombuffer(b"fish\0\0\0\0fowl\0\0\0\0", np.uint8).reshape(2, 8),  # encoded already
        [list(b"fish\0\0\0\0"), list(b"fowl\0\0\0\0")],
    ],
)
def test_texts_may_come_as_anything_that_holds_them(values: Any) -> None:
    [array], single = _inputs.read(TEXT, values)
    raw = _inputs.to_bytes(TEXT, TEXT.inputs[0], array)
    assert (raw, single) == (b"fish\0\0\0\0fowl\0\0\0\0", False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("a long text", "at most 8 bytes in UTF-8, got 11 bytes; give a shorter text, for texts"),
        (["short", "a long text"], r"got 11 bytes at \[1\]; give a shorter"),
        ("\u20ac" * 3, "at most 8 bytes in UTF-8, got 9 bytes"),
        ("\ud800", "surrogates not allowed"),
        ([b"\xff"], "can't decode byte 0xff"),
        (["fish", 7], "expected texts or bytes"),
        ([["fish"]], r"expected shape \[-1, 8\], or \[8\] for one row; got \[1, 1, 8\]"),
        ([], r"got \[0\]"),
    ],
)
def test_texts_that_do_not_fit_are_refused(values: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        _inputs.read(TEXT, values)
    assert next(iter(caught.value.fields)).startswith("inputs[text].")


def test_a_text_for_numbers_is_refused() -> None:
    spec = TensorSpec("text", "UINT8", (-1, 8), "")
    with pytest.raises(InvalidInput, match="expected numbers"):
        _inputs._read(TEXT, spec, "fish")
