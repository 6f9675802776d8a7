"""Calls that gRPC's own library can send, but that are no plain unary calls of one message."""

from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from support.server import Server
from support.wire import Tensor, classify, classify_request, infer_request, refusal, typed

HOT = {
    "/sigmax.v1.ClassifierService/Classify": classify_request,
    "/inference.GRPCInferenceService/ModelInfer": infer_request,
}
ROW = Tensor.of("x", np.zeros((1, 5)))
hot_calls = pytest.mark.parametrize("method", HOT)


@hot_calls
def test_a_compressed_message_is_not_read_yet(server: Server, method: str) -> None:
    call: Any = server.channel.unary_unary(method)
    message = HOT[method]("softmax", ROW).SerializeToString()
    found = refusal(lambda: call(message, timeout=60, compression=grpc.Compression.Gzip))
    assert (found.code, found.reason) == ("UNIMPLEMENTED", "UNIMPLEMENTED")
    assert "expected grpc-encoding identity" in found.message


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
    for method in ("/sigmax.v1.ClassifierService/Guess", "/sigmax.v2.ClassifierService/Classify"):
        call: Any = server.channel.unary_unary(method)
        with pytest.raises(grpc.RpcError) as raised:
            call(b"", timeout=60)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("name", ["Fisch-Süß", "100%", "two\nlines", "鱼", "\u2028", "a" * 1000])
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
