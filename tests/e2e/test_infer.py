"""`Client.infer` and `sigmax infer`: the outputs of a real server as they are, by their names.

tritonclient, which `support.wire` imports, has the protocol's messages in this process, too.
"""

import asyncio
import json
import math
from typing import Any

import numpy as np
import pytest
import sigmax
import support.wire
from sigmax._cli import main
from support.server import Server

VALUES = [[[0, 1], [1, 0]], [[1, 1], [0, 0]]]


@pytest.mark.parametrize("dtype", [*support.wire.NUMPY, "BF16", "BYTES"])
def test_every_dtype_comes_back(server: Server, dtype: str) -> None:
    model = f"identity-{dtype.lower()}"
    values: Any = np.array(VALUES, support.wire.NUMPY.get(dtype))
    if dtype == "BYTES":
        values = np.array([[[b"", b"fish"], [b"\xff\x00", "ü".encode()]]] * 2, object)
    batch = server.client.infer(model, values)["y"]
    assert batch.tolist() == values.tolist()
    assert batch.shape == values.shape
    kept = {"BF16": np.dtype(np.float32), "BYTES": np.dtype(object)}
    assert batch.dtype == kept.get(dtype, values.dtype)
    row = server.client.infer(model, values[0])["y"]
    assert row.tolist() == values[0].tolist()
    batch.flat[0] = row.flat[1]  # the caller's to change


def test_bfloat16_is_exact(server: Server) -> None:
    values = np.array([[[1.0, 2.0**-120, math.inf, -0.0, 3.140625]]], np.float32)
    answer = server.client.infer("identity-bf16", values)["y"]
    assert answer.tobytes() == values.tobytes()


def test_outputs_are_asked_for_by_name(server: Server) -> None:
    inputs: dict[str, Any] = {"x": [[1, 2, 3]], "flags": [[True, False, True]]}
    both = server.client.infer("pair", inputs)
    assert {name: array.tolist() for name, array in both.items()} == {
        "sum": [[2.0, 2.0, 4.0]],
        "others": [[False, True, False]],
    }
    assert list(server.client.infer("pair", inputs, outputs=["others"], version=1)) == ["others"]
    assert list(server.client.infer("pair", inputs, outputs="sum")) == ["sum"]
    with pytest.raises(sigmax.InvalidInput, match="product") as caught:
        server.client.infer("pair", inputs, outputs=["product"])
    assert caught.value.reason == "UNEXPECTED_OUTPUT"


def test_models_without_rows(server: Server) -> None:
    assert server.client.infer("scalar", 2.0)["y"].tolist() == 4.0
    assert server.client.infer("any-length", [[1, 2], [3, 4]])["y"].tolist() == [[1, 2], [3, 4]]
    answer = server.client.infer("unbatched", [0, 0, 0])["p"]
    assert answer.tolist() == pytest.approx([1 / 3] * 3)


def test_errors_are_those_of_classify(server: Server) -> None:
    with pytest.raises(sigmax.ModelNotFound):
        server.client.infer("unicorn", [1])
    with pytest.raises(sigmax.InvalidInput, match=r"expected shape \[-1, 3\], or \[3\]"):
        server.client.infer("linear", [1.0])


def test_asyncio(server: Server) -> None:
    async def ask() -> Any:
        async with sigmax.AsyncClient(server.grpc, timeout=60) as client:
            return await client.infer("pair", {"x": [1, 2, 3], "flags": [True] * 3}, outputs="sum")

    assert asyncio.run(ask())["sum"].tolist() == [2.0, 3.0, 4.0]


def test_a_model_that_is_replaced_is_described_again(server: Server) -> None:
    with sigmax.Client(server.grpc, timeout=60) as client:
        client._described["linear", ""] = client.model("scalar")  # as if it had been another
        assert client.infer("linear", [1, 2, 3])["y"].shape == (2,)


@pytest.mark.parametrize(
    ("model", "rows", "lines"),
    [
        ("linear", "[[0, 0, 0], [0, 0, 0]]", 2),
        ("linear", "[0, 0, 0]", 1),
        ("any-length", "[[1, 2], [3, 4]]", 1),
        ("scalar", "2", 1),
    ],
)
def test_the_command_prints_a_line_for_each_row(
    server: Server, model: str, rows: str, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["infer", model, rows, "--address", server.grpc, "--timeout=60"]
    assert main([*asked, "--output=json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == lines
    assert printed[0]["model"] == model
    for output in ("csv", "table"):
        assert main([*asked, f"--output={output}"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1 + lines


def test_the_command_prints_what_json_and_tables_cannot_hold(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(model: str, rows: str, *more: str) -> str:
        assert main(["infer", model, rows, "--address", server.grpc, "--timeout=60", *more]) == 0
        return capsys.readouterr().out

    values = "[[[[NaN, Infinity]], [[-Infinity, 1]]]]"[1:-1]
    lines = [json.loads(line) for line in said("identity-fp32", values).splitlines()]
    assert lines[1]["outputs"]["y"] == [["-Infinity", 1.0]]
    assert lines[0]["outputs"]["y"] == [["NaN", "Infinity"]]
    text = said("identity-bytes", '[[["fish\\u001b"]]]', "--output=table")
    assert text == "row  y\n0    fish\\x1b\n"
    many = said("identity-int8", json.dumps([[list(range(100))]]), "--output=table")
    assert many == "row  y\n0    0, 1, 2, 3, 4, 5, 6, 7, ... (100 values)\n"
    both = said(
        "pair", '{"x": [1, 2, 3], "flags": [true, true, true]}', "--only=sum", "--output=csv"
    )
    assert both == "row,sum[0],sum[1],sum[2]\n0,2.0,3.0,4.0\n"
    uneven = ["infer", "any-length", "[[1], [2]] [[1, 1], [2, 2]]", "--output=csv"]
    assert main([*uneven, "--address", server.grpc]) == 1
    assert "use --output json" in capsys.readouterr().err
