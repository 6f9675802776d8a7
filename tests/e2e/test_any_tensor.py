"""Valid tensors of any dtype are answered exactly, and invalid ones refused."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
import sigmax
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from onnx.helper import make_node
from support import files
from support.files import DTYPES
from support.server import Serve, Server
from support.wire import NUMPY, SIZES, Tensor, at_once, infer, refusal

SHAPES = st.tuples(st.integers(1, 8), st.integers(0, 5), st.integers(0, 5))
CONCURRENT = 64
FLOATS = ("FP16", "FP32", "FP64")


def elements(shape: tuple[int, ...], dtype: str) -> int:
    size: int = math.prod(shape) * SIZES[dtype]
    return size


@st.composite
def tensors(draw: DrawFn, dtype: str) -> Tensor:
    """Any shape that the identity takes, with any bytes: every NaN, infinity and subnormal."""
    shape = draw(SHAPES)
    size = elements(shape, dtype)
    raw = draw(st.binary(min_size=size, max_size=size))
    if dtype == "BOOL":
        raw = bytes(byte & 1 for byte in raw)
    return Tensor("x", dtype, shape, raw)


@st.composite
def broken(draw: DrawFn, dtype: str) -> Tensor:
    """A valid tensor with one thing wrong."""
    tensor = draw(tensors(dtype))
    what = draw(st.sampled_from(["bytes", "dtype", "rank", "negative", "rows", "name"]))
    if what == "bytes":
        other = draw(st.binary(max_size=300).filter(lambda raw: len(raw) != len(tensor.raw)))
        return replace(tensor, raw=other)
    if what == "dtype":
        return replace(tensor, dtype=draw(st.sampled_from([d for d in DTYPES if d != dtype])))
    if what == "rank":
        return replace(tensor, shape=draw(st.sampled_from([(), tensor.shape[:2], (1, 1, 1, 1)])))
    if what == "negative":
        axis = draw(st.integers(0, 2))
        size = draw(st.integers(-(2**63), -1))
        return replace(tensor, shape=(*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]))
    if what == "rows":
        return replace(tensor, shape=(draw(st.sampled_from([0, 1025, 2**62])), *tensor.shape[1:]))
    return replace(tensor, name=draw(st.text(min_size=1, max_size=5).filter(lambda n: n != "x")))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bit_of_a_valid_tensor_is_kept(server: Server, dtype: str) -> None:
    @settings(deadline=None, max_examples=50)
    @given(tensors(dtype))
    def check(tensor: Tensor) -> None:
        [answer] = infer(server, f"identity-{dtype.lower()}", tensor)
        assert answer == replace(tensor, name="y")

    check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_invalid_tensor_is_refused_and_the_server_goes_on(server: Server, dtype: str) -> None:
    model = f"identity-{dtype.lower()}"
    good = Tensor("x", dtype, (1, 1, 1), bytes(SIZES[dtype]))

    @settings(deadline=None, max_examples=50)
    @given(broken(dtype))
    def check(tensor: Tensor) -> None:
        found = refusal(lambda: infer(server, model, tensor))
        assert found.code == "INVALID_ARGUMENT"
        assert len(found.fields) == 1
        assert found.message
        assert infer(server, model, good) == [replace(good, name="y")]

    check()


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype in NUMPY])
def test_answers_are_onnx_runtimes_own_alone_and_in_shared_batches(
    server: Server, examples: Path, dtype: str
) -> None:
    model = f"classes-{dtype.lower()}"
    session = onnxruntime.InferenceSession(examples / model / "1/model.onnx")
    chance = np.random.default_rng(list(dtype.encode()))
    scores = chance.normal(scale=3, size=(2 * CONCURRENT, 3))
    if dtype not in FLOATS:
        scores = np.abs(scores)
    given = [Tensor.of("x", rows, NUMPY[dtype]) for rows in np.split(scores, CONCURRENT)]
    expected = [session.run(None, {"x": tensor.array})[0].tobytes() for tensor in given]
    assert [infer(server, model, tensor)[0].raw for tensor in given] == expected
    assert [answer.raw for answer in at_once(server, model, given)] == expected


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8).flatmap(lambda rows: st.binary(min_size=40 * rows, max_size=40 * rows)))
def test_any_bytes_through_layers_give_onnx_runtimes_bits(
    server: Server, examples: Path, raw: bytes
) -> None:
    session = layers_session(examples)
    tensor = Tensor("x", "FP32", (len(raw) // 40, 10), raw)
    [expected] = session.run(None, {"x": tensor.array})
    [answer] = infer(server, "layers", tensor)
    assert (answer.shape, answer.raw) == (expected.shape, expected.tobytes())


@cache
def layers_session(examples: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(examples / "layers/1/model.onnx")


def test_the_place_of_a_tensor_in_its_message_changes_no_bit(serve: Serve, tmp_path: Path) -> None:
    node = make_node("ReduceMean", ["x", "axis"], ["y"], keepdims=0)
    shapes = [files.tensor("x", "FP32", 60)], [files.tensor("y", "FP32")]
    files.save(files.graph([node], *shapes, {"axis": np.array([0])}), tmp_path, "mean")
    server = serve(tmp_path)
    given = Tensor.of("x", np.random.default_rng(0).normal(size=60))
    answers = {infer(server, "mean", given, id="x" * size)[0].raw for size in range(1, 17)}
    assert len(answers) == 1


def test_concurrent_requests_of_other_shapes_do_not_mix(server: Server) -> None:
    chance = np.random.default_rng(0)
    given = [
        Tensor.of("x", chance.normal(size=(1 + number % 3, number % 4, 1 + number % 2)))
        for number in range(CONCURRENT)
    ]
    answers = at_once(server, "identity-fp32", given)
    assert answers == [replace(tensor, name="y") for tensor in given]


def test_requests_at_once_do_share_batches(server: Server) -> None:
    """Else the tests above would show nothing."""
    before = runs(server, "softmax"), rows(server, "softmax")
    given = [Tensor.of("x", np.full((1, 5), number)) for number in range(CONCURRENT)]
    for _ in range(10):
        at_once(server, "softmax", given)
    answered = rows(server, "softmax") - before[1]
    assert answered == 10 * CONCURRENT
    assert runs(server, "softmax") - before[0] < answered


def runs(server: Server, model: str) -> float:
    return server.metric("sigmax_batch_rows_count", model=model)


def rows(server: Server, model: str) -> float:
    return server.metric("sigmax_batch_rows_sum", model=model)


def test_texts_are_classified(server: Server) -> None:
    model = "fish-or-fowl"
    texts: list[list[str | bytes]] = [["fish"], ["hen"], [b"fish"], ["Fisch-\u00fc\0"]]
    rows = server.client.classify(model, texts)
    assert [row.label for row in rows] == ["fish", "fowl", "fish", "fowl"]
    assert server.client.classify(model, ["fish"]).label == "fish"
    with pytest.raises(sigmax.InvalidInput, match=r"expected texts or bytes, .* got 3 at \[0, 0\]"):
        server.client.classify(model, [[3]])
