"""Messages that are read beside the loop are answered as all others are."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sigmax.v1 import classifier_pb2 as pb
from support.server import Server
from support.wire import NUMPY, Refusal, Tensor, infer_request, outputs, refusal, triton, typed
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

pytestmark = pytest.mark.slow

ROWS = 60_000
LISTS = {"INT64": "int64_contents", "FP32": "fp32_contents", "UINT8": "uint_contents"}
VALUES = {"INT64": "ints", "FP32": "floats", "UINT8": "uints"}


@pytest.fixture(scope="module")
def roomy(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Takes batches of many rows."""
    log = tmp_path_factory.mktemp("roomy") / "log"
    with Server(log, f"--max-batch-size={ROWS}", examples) as server:
        yield server


def numbers(dtype: str, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape).astype(NUMPY[dtype])


def stream_of_one(call: Any) -> Callable[..., Any]:
    return lambda request, **options: next(call(iter([request]), **options))


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
@pytest.mark.parametrize("dtype", LISTS)
def test_typed_contents(roomy: Server, dtype: str, compression: Any) -> None:
    array = numbers(dtype, 1, 1, 2_000_000)
    request = service_pb2.ModelInferRequest(model_name=f"identity-{dtype.lower()}")
    tensor = request.inputs.add(name="x", datatype=dtype, shape=array.shape)
    getattr(tensor.contents, LISTS[dtype]).extend(array.ravel().tolist())
    reply = triton(roomy).ModelInfer(request, timeout=60, compression=compression)
    assert outputs(reply)[0].raw == array.tobytes()
    stream = stream_of_one(triton(roomy).ModelStreamInfer)
    reply = stream(request, timeout=60, compression=compression)
    assert outputs(reply.infer_response)[0].raw == array.tobytes()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_raw_contents(roomy: Server, compression: Any) -> None:
    array = np.random.default_rng(1).normal(size=(1, 1, 5_000_000)).astype(np.float32)
    request = infer_request("identity-fp32", Tensor.of("x", array))
    for _ in range(2):
        reply = triton(roomy).ModelInfer(request, timeout=60, compression=compression)
        assert outputs(reply)[0].raw == array.tobytes()
    replies = triton(roomy).ModelStreamInfer(iter([request] * 3), timeout=60)
    assert [outputs(r.infer_response)[0].raw == array.tobytes() for r in replies] == [True] * 3


def test_strings(roomy: Server) -> None:
    texts = [b"%d" % number for number in range(200_000)]
    request = service_pb2.ModelInferRequest(model_name="identity-bytes")
    tensor = request.inputs.add(name="x", datatype="BYTES", shape=[1, 1, len(texts)])
    tensor.contents.bytes_contents.extend(texts)
    [answer] = outputs(triton(roomy).ModelInfer(request, timeout=60))
    assert answer.raw == b"".join(len(text).to_bytes(4, "little") + text for text in texts)


@pytest.mark.parametrize("dtype", VALUES)
def test_values(roomy: Server, dtype: str) -> None:
    array = numbers(dtype, ROWS, 3)
    model = f"classes-{dtype.lower()}"
    raw = pb.Tensor(shape=array.shape, raw=array.tobytes())
    values = pb.Values(**{VALUES[dtype]: array.ravel().tolist()})
    asked = [
        pb.ClassifyRequest(model_name=model, inputs=[tensor], top_k=1)
        for tensor in (raw, pb.Tensor(shape=array.shape, values=values))
    ]
    answers = [typed(roomy).Classify(request, timeout=60).rows for request in asked]
    assert len(answers[0]) == ROWS
    assert answers[1] == answers[0]
    stream = stream_of_one(typed(roomy).ClassifyStream)
    reply = stream(pb.ClassifyStreamRequest(id="7", request=asked[1]), timeout=60)
    assert (reply.id, reply.response.rows == answers[0]) == ("7", True)


def test_what_is_wrong_with_them_is_told(roomy: Server) -> None:
    array = numbers("INT64", ROWS, 3)
    array[-1, -1] = 1000
    values = pb.Values(ints=array.ravel().tolist())
    tensor = pb.Tensor(shape=array.shape, values=values)
    request = pb.ClassifyRequest(model_name="classes-int8", inputs=[tensor])
    found = refusal(lambda: typed(roomy).Classify(request, timeout=60))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "BAD_ELEMENT")
    assert "element 179999: expected INT8 from -128 to 127, got 1000" in found.message


def parts(call: str, count: int) -> tuple[Callable[[Server], Any], Any]:
    """A call, and a message for it of so many parts."""
    request = service_pb2.ModelInferRequest(model_name="softmax")
    if call == "Classify":
        return (
            lambda server: typed(server).Classify,
            pb.ClassifyRequest(model_name="softmax", inputs=[pb.Tensor()] * count),
        )
    request.inputs.extend([service_pb2.ModelInferRequest.InferInputTensor()] * count)
    stream = call == "ModelStreamInfer"
    return (
        lambda server: (
            stream_of_one(triton(server).ModelStreamInfer) if stream else triton(server).ModelInfer
        ),
        request,
    )


@pytest.mark.parametrize("call", ["Classify", "ModelInfer", "ModelStreamInfer"])
def test_the_parts_of_a_message_are_bounded_and_counted(server: Server, call: str) -> None:
    def ask(count: int) -> Refusal | None:
        method, request = parts(call, count)
        try:
            return refusal(lambda: method(server)(request, timeout=60))
        except AssertionError:
            return None  # an answer of a stream that holds the error

    too_many = ask(16_385)
    assert too_many is not None
    assert (too_many.code, too_many.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert "at most 16384 parts" in too_many.message
    assert "got 16385" in too_many.message
    enough = ask(16_384)
    assert enough is None or enough.code == "INVALID_ARGUMENT"
