"""The classification extension: outputs as `value:index:label`."""

import struct
from typing import Any

import numpy as np
import pytest
from support.server import Server
from support.wire import Tensor, infer, refusal


def classes(
    server: Server, model: str, x: Tensor, output: str, count: Any
) -> tuple[tuple[int, ...], list[str]]:
    asked = [{"name": output, "parameters": {"classification": count}}]
    [answer] = infer(server, model, x, outputs=asked)
    assert answer.dtype == "BYTES"
    texts, raw = [], answer.raw
    while raw:
        [size] = struct.unpack_from("<I", raw)
        texts.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return answer.shape, texts


def test_rows_have_their_highest_values(server: Server) -> None:
    x = Tensor.of("x", np.log([[0.1, 0.2, 0.3, 0.25, 0.15], [0.5, 0.1, 0.1, 0.1, 0.2]]))
    shape, texts = classes(server, "softmax", x, "p", {"int64_param": 2})
    assert shape == (2, 2)
    assert texts == ["0.300000:2:c", "0.250000:3:d", "0.500000:0:a", "0.200000:4:e"]
    assert classes(server, "softmax", x, "p", {"int64_param": 99})[0] == (2, 5)


def test_integers_are_plain_and_without_labels(server: Server) -> None:
    x = Tensor.of("x", [[[-5, 7, 7]]], np.int64)
    shape, texts = classes(server, "identity-int64", x, "y", {"int64_param": 3})
    assert (shape, texts) == ((1, 3), ["7:1", "7:2", "-5:0"])


def test_a_model_without_a_batch_axis_is_one_row(server: Server) -> None:
    x = Tensor.of("x", [[1.0, 2.0], [4.0, 3.0]])
    shape, texts = classes(server, "any-length", x, "y", {"int64_param": 3})
    assert (shape, texts) == ((3,), ["4.000000:2", "3.000000:3", "2.000000:1"])


def test_the_one_probability_of_a_binary_model_is_of_class_1(server: Server) -> None:
    texts = classes(server, "sigmoid", Tensor.of("x", [[0.0]]), "p", {"int64_param": 1})[1]
    assert texts == ["0.500000:0:yes"]


@pytest.mark.parametrize(
    ("count", "message"),
    [
        ({"int64_param": 0}, "invalid value for 'classification' parameter, expected >= 1, got 0"),
        ({"int64_param": -1}, "invalid value for 'classification' parameter"),
        ({"string_param": "2"}, "invalid value type for 'classification' parameter, expected int"),
    ],
)
def test_a_wrong_count_is_refused(server: Server, count: Any, message: str) -> None:
    x = Tensor.of("x", np.zeros((1, 5)))
    found = refusal(lambda: classes(server, "softmax", x, "p", count))
    assert found.code == "INVALID_ARGUMENT"
    assert found.message.startswith(message)


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [("BOOL", b"\1"), ("FP16", b"\0\x3c"), ("BF16", b"\x80\x3f"), ("BYTES", b"\1\0\0\0a")],
)
def test_what_has_no_order_is_refused(server: Server, dtype: str, raw: bytes) -> None:
    x = Tensor("x", dtype, (1, 1, 1), raw)
    model = f"identity-{dtype.lower()}"
    found = refusal(lambda: classes(server, model, x, "y", {"int64_param": 1}))
    assert (found.code, found.message) == (
        "INVALID_ARGUMENT",
        f"class result not available for output due to unsupported type '{dtype}'",
    )


def test_more_elements_than_are_sensible_are_refused(server: Server) -> None:
    x = Tensor.of("x", np.zeros((1, 1, 1_000_001)), np.uint8)
    found = refusal(lambda: classes(server, "identity-uint8", x, "y", {"int64_param": 1}))
    assert found.message.startswith("classification output tensor too large")
