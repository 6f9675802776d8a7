"""Elements as lists of numbers, as people write them by hand and grpcurl sends them."""

from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from sigmax.v1 import classifier_pb2 as pb
from support.server import Server
from support.wire import NUMPY, Refusal, Tensor, classify, refusal, typed

LISTS = {
    "BOOL": ("bools", [True, False, True]),
    "UINT8": ("uints", [0, 1, 255]),
    "UINT16": ("uints", [0, 1, 65535]),
    "UINT32": ("uints", [0, 1, 2**32 - 1]),
    "UINT64": ("uints", [0, 1, 2**64 - 1]),
    "INT8": ("ints", [-128, 0, 127]),
    "INT16": ("ints", [-32768, 0, 32767]),
    "INT32": ("ints", [-(2**31), 0, 2**31 - 1]),
    "INT64": ("ints", [-(2**63), 0, 2**63 - 1]),
    "FP16": ("floats", [0.1, -2.0, 65504.0]),
    "FP32": ("floats", [0.1, -2.0, 3e38]),
    "FP64": ("doubles", [0.1, -2.0, 1e30]),
}


def ask(server: Server, dtype: str, values: dict[str, Any], rows: int = 1) -> pb.ClassifyResponse:
    """Ask the three-class model of a dtype, with a request read from JSON."""
    tensor = {"shape": [rows, 3], "values": values}
    request = {"modelName": f"classes-{dtype.lower()}", "inputs": [tensor]}
    message = json_format.ParseDict(request, pb.ClassifyRequest())
    return typed(server).Classify(message, timeout=60)


@pytest.mark.parametrize("dtype", LISTS)
def test_numbers_mean_what_their_bytes_mean(server: Server, dtype: str) -> None:
    form, numbers = LISTS[dtype]
    raw = Tensor.of("x", [numbers], NUMPY[dtype])
    expected = classify(server, f"classes-{dtype.lower()}", raw)
    assert ask(server, dtype, {form: numbers}).rows == expected.rows


@pytest.mark.parametrize(
    ("number", "bits"),
    [
        (1.0, 0x3F80),
        (1.00390625, 0x3F80),  # half way: to the even one, below
        (1.01171875, 0x3F82),  # half way: to the even one, above
        (1.00390637, 0x3F81),
        (-0.1, 0xBDCD),
        (3e38, 0x7F62),
    ],
)
def test_bf16_is_rounded_to_nearest_even(server: Server, number: float, bits: int) -> None:
    raw = np.array([bits, 0, 0], "<u2").tobytes()
    expected = classify(server, "classes-bf16", Tensor("x", "BF16", (1, 3), raw))
    assert ask(server, "BF16", {"floats": [number, 0, 0]}).rows == expected.rows
    by_sdk = server.client.classify("classes-bf16", [number, 0.0, 0.0])
    assert [c.probability for c in by_sdk.classes] == [
        c.probability for c in expected.rows[0].classes
    ]


def test_fp16_is_rounded_to_nearest_even(server: Server) -> None:
    by_sdk = server.client.classify("classes-fp16", [1 + 2**-11, 1 + 3 * 2**-11, 1.0])
    exact = np.array([1.0, 1 + 2**-9, 1.0])
    assert by_sdk.probabilities == pytest.approx(np.exp(exact) / np.exp(exact).sum(), abs=1e-6)


@pytest.mark.parametrize(
    ("dtype", "values", "detail"),
    [
        ("UINT8", {"uints": [0, 256, 0]}, "element 1: expected UINT8 from 0 to 255, got 256"),
        ("INT8", {"ints": [0, 0, -129]}, "element 2: expected INT8 from -128 to 127, got -129"),
        (
            "INT32",
            {"ints": [2**31, 0, 0]},
            f"element 0: expected INT32 from {-(2**31)} to {2**31 - 1}, got {2**31}",
        ),
        ("FP32", {"doubles": [0, 0, 0]}, "expected values.floats for FP32, got values.doubles"),
        ("INT16", {"uints": [0, 0, 0]}, "expected values.ints for INT16, got values.uints"),
        ("BOOL", {"uints": [0, 0, 0]}, "expected values.bools for BOOL, got values.uints"),
        (
            "FP64",
            {"doubles": [0, 0, 0], "bools": [True]},
            "expected values.doubles for FP64, got values.bools",
        ),
    ],
)
def test_a_number_that_does_not_fit_is_named(
    server: Server, dtype: str, values: dict[str, Any], detail: str
) -> None:
    message = f"input 'x' of model 'classes-{dtype.lower()}': {detail}"
    expected = Refusal(
        "INVALID_ARGUMENT", message, "BAD_ELEMENT", {"inputs[x].data": message}, None
    )
    assert refusal(lambda: ask(server, dtype, values)) == expected


@pytest.mark.parametrize("numbers", [[], [1.0, 2.0], [1.0] * 4])
def test_as_many_numbers_as_the_shape_says(server: Server, numbers: list[float]) -> None:
    found = refusal(lambda: ask(server, "FP32", {"floats": numbers}))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "BYTE_SIZE_MISMATCH")
    assert f"expected 12 bytes for its shape and dtype, got {4 * len(numbers)}" in found.message
