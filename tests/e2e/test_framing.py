"""Calls of gRPC's own library that are not plain unary calls of one message."""

from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sigmax.v1 import classifier_pb2 as pb
from support.server import Serve, Server
from support.wire import Tensor, classify, classify_request, infer_request, refusal, triton, typed
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

HOT = {
    "/sigmax.v1.ClassifierService/Classify": classify_request,
    "/inference.GRPCInferenceService/ModelInfer": infer_request,
}
ROW = Tensor.of("x", np.zeros((1, 5)))
hot_calls = pytest.mark.parametrize("method", HOT)


COMPRESSIONS = (grpc.Compression.Gzip, grpc.Compression.Deflate)
compressions = pytest.mark.parametrize("compression", COMPRESSIONS)


@hot_calls
@compressions
def test_compressed_messages_are_read(server: Server, method: str, compression: Any) -> None:
    call: Any = server.channel.unary_unary(method)
    for rows in (1, 500):
        tensor = Tensor.of("x", np.zeros((rows, 5)))
        message = HOT[method]("softmax", tensor).SerializeToString()
        plain = call(message, timeout=60)
        packed = call(message, timeout=60, compression=compression)
        assert without_timings(method, packed) == without_timings(method, plain)


def without_timings(method: str, reply: bytes) -> bytes:
    """What is the same in every answer to the same request."""
    if method.endswith("ModelInfer"):
        return reply
    response = pb.ClassifyResponse.FromString(reply)
    response.ClearField("timings")
    return response.SerializeToString()


@compressions
def test_calls_that_are_not_hot_read_compressed_messages_too(
    server: Server, compression: Any
) -> None:
    request = service_pb2.ModelMetadataRequest(name="softmax")
    reply = triton(server).ModelMetadata(request, timeout=60, compression=compression)
    assert reply.name == "softmax"
    requests = [infer_request("softmax", ROW)] * 3
    replies = triton(server).ModelStreamInfer(iter(requests), timeout=60, compression=compression)
    assert len(list(replies)) == 3


@compressions
def test_a_bomb_is_an_error(tmp_path: Path, examples: Path, serve: Serve, compression: Any) -> None:
    """A message is measured as it is when it is decompressed."""
    server = serve(examples, "--max-message-bytes=100000")
    zeros = Tensor.of("x", np.zeros((20_000, 5)))
    request = infer_request("softmax", zeros)
    assert request.ByteSize() > 100_000
    found = refusal(lambda: triton(server).ModelInfer(request, timeout=60, compression=compression))
    assert found.code == "RESOURCE_EXHAUSTED"
    stream = triton(server).ModelStreamInfer(iter([request]), timeout=60, compression=compression)
    assert refusal(lambda: next(stream)).code == "RESOURCE_EXHAUSTED"
    good = infer_request("softmax", ROW)
    assert triton(server).ModelInfer(good, timeout=60, compression=compression).model_name


@hot_calls
@pytest.mark.parametrize("messages", [0, 2])
def test_a_unary_call_has_exactly_one_message(server: Server, method: str, messages: int) -> None:
    call: Any = server.channel.stream_unary(method)
    message = HOT[method]("softmax", ROW).SerializeToString()
    found = refusal(lambda: call(iter([message] * messages), timeout=60))
    # What gRPC prescribes for a wrong number of messages.
    assert (found.code, found.reason) == ("UNIMPLEMENTED", "UNIMPLEMENTED")
    assert "one message" in found.message


def test_an_unknown_call_is_unimplemented(server: Server) -> None:
    for method in (
        "/sigmax.v1.ClassifierService/Guess",
        "/sigmax.v2.ClassifierService/Classify",
        "/inference.GRPCInferenceService/Guess",
        # MLServer's own.
        "/inference.model_repository.ModelRepositoryService/RepositoryIndex",
    ):
        call: Any = server.channel.unary_unary(method)
        with pytest.raises(grpc.RpcError) as raised:
            call(b"", timeout=60)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("name", ["Fisch-Süß", "100%", "two\nlines", "鱼", "\u2028", "a" * 800])
def test_names_of_any_characters_come_back_as_they_were(server: Server, name: str) -> None:
    found = refusal(lambda: classify(server, name, ROW))
    assert (found.code, found.message) == ("NOT_FOUND", f"no model is named '{name}'")


def test_a_call_leaves_the_connection_in_order(server: Server) -> None:
    """After every kind of failure above, and interleaved with good calls."""
    for method, request in HOT.items():
        two: Any = server.channel.stream_unary(method)
        message = request("softmax", ROW).SerializeToString()
        for _ in range(20):
            refusal(partial(two, iter([message, message]), timeout=60))
            assert typed(server).Classify(classify_request("softmax", ROW), timeout=60).rows
