"""What clients may do with a connection: large tensors, much ahead, many calls at once, pings."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support import files
from support.http2 import Connection
from support.server import Serve, Server
from support.wire import Tensor, infer, infer_request, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

ROW = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]], np.float32)


def test_tensors_over_4_mib_are_taken(server: Server) -> None:
    x = Tensor.of("x", np.zeros((2, 1_000_000)))
    [answer] = infer(server, "any-length", x)
    assert answer.shape == (2, 1_000_000)


@pytest.mark.slow
def test_a_message_may_be_as_long_as_clients_can_send(tmp_path: Path, serve: Serve) -> None:
    files.save(files.any_length(), tmp_path, "any-length")
    server = serve(tmp_path, "--max-message-bytes=2147483647", "--shards=1")
    # More than unfinished messages share by default.
    array = np.arange(2 * 36_000_000, dtype=np.float32).reshape(2, -1)
    [answer] = infer(server, "any-length", Tensor.of("x", array))
    assert answer.raw == array.tobytes()


def test_hundreds_at_once_are_all_answered(server: Server) -> None:
    request = infer_request("softmax", Tensor.of("x", ROW))
    calls = [triton(server).ModelInfer.future(request, timeout=60) for _ in range(500)]
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_a_client_may_send_much_ahead(server: Server) -> None:
    """HTTP/2's own 64 KiB would hold up every large tensor."""
    with Connection(server) as wire:
        assert wire.h2.remote_settings.initial_window_size >= 2**20
        assert wire.h2.outbound_flow_control_window >= 4 * 2**20
        assert wire.h2.remote_settings.max_concurrent_streams >= 1000


@pytest.mark.slow
def test_a_client_may_ping_as_often_as_it_likes(tmp_path: Path, serve: Serve) -> None:
    """A server of gRPC's own would answer ENHANCE_YOUR_CALM long before the answer is there."""
    files.save(files.slow(600), tmp_path, "slow")
    server = serve(tmp_path, "--shards=1")
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        call: Any = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        message = infer_request("slow", Tensor.of("x", [[0]])).SerializeToString()
        for _ in range(2):
            assert call(message, timeout=60).model_name == "slow"
