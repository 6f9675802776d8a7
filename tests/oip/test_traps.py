"""What breaks real clients, by the numbers of the field's list, where no other file tests it."""

import socket
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import grpc
import h2.config
import h2.connection
import h2.events
import numpy as np
import pytest
from support import files
from support.server import Serve, Server
from support.wire import Tensor, infer, infer_request, outputs, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

ROW = np.array([[0.0, 1.0, 2.0, 3.0, 4.0]], np.float32)


SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def probe(server: Server, service: bytes) -> bytes:
    """What grpc.health.v1 says of a service, as it is on the wire."""
    call: Any = server.channel.unary_unary("/grpc.health.v1.Health/Check")
    request = b"\n" + bytes([len(service)]) + service if service else b""
    return bytes(call(request, timeout=60))


class Wire:
    """A connection by HTTP/2 alone, for what gRPC's own library hides; it has been greeted."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.grpc.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        greeting: set[type] = set()
        while not {h2.events.RemoteSettingsChanged, h2.events.WindowUpdated} <= greeting:
            greeting |= {type(event) for event in self.events()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def events(self) -> list[Any]:
        """What comes next."""
        self.socket.sendall(self.h2.data_to_send())
        data = self.socket.recv(2**16)
        assert data, "the server has closed the connection"
        return list(self.h2.receive_data(data))

    def infer(self, request: Any, *headers: tuple[str, str]) -> list[tuple[str, str]]:
        """The last headers of ModelInfer's answer."""
        message = request.SerializeToString()
        path = "/inference.GRPCInferenceService/ModelInfer"
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", path)]
        head += [("te", "trailers"), ("content-type", "application/grpc"), *headers]
        self.h2.send_headers(stream, head)
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        self.h2.send_data(stream, framed, end_stream=True)
        last: list[tuple[str, str]] = []
        while True:
            for event in self.events():
                last = getattr(event, "headers", last)
                if isinstance(event, h2.events.StreamEnded):
                    return last


def typed_request() -> Any:
    request = service_pb2.ModelInferRequest(model_name="softmax")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 5])
    tensor.contents.fp32_contents.extend(ROW.ravel().tolist())
    return request


def test_trap_1_answers_are_raw_whatever_was_asked(server: Server) -> None:
    reply = triton(server).ModelInfer(typed_request(), timeout=60)
    assert not any(output.HasField("contents") for output in reply.outputs)
    assert [len(raw) for raw in reply.raw_output_contents] == [20]


def test_trap_2_every_output_has_its_raw_entry(server: Server) -> None:
    x = Tensor.of("x", np.zeros((2, 0)))
    reply = triton(server).ModelInfer(infer_request("any-length", x), timeout=60)
    assert [list(output.shape) for output in reply.outputs] == [[2, 0]]
    assert list(reply.raw_output_contents) == [b""]


def test_trap_8_an_unknown_model_is_not_ready_and_no_error(server: Server) -> None:
    for name, version, ready in (
        ("softmax", "", True),
        ("softmax", "9", False),
        ("fish", "", False),
    ):
        request = service_pb2.ModelReadyRequest(name=name, version=version)
        assert triton(server).ModelReady(request, timeout=60).ready is ready
    request = service_pb2.ModelReadyRequest(name="softmax", version="x")
    assert (
        refusal(lambda: triton(server).ModelReady(request, timeout=60)).code == "INVALID_ARGUMENT"
    )


def test_trap_8_a_model_that_failed_is_not_ready_and_no_error(tmp_path: Path, serve: Serve) -> None:
    files.save(files.softmax(), tmp_path, "softmax")
    files.save(files.unknown_operator(), tmp_path, "broken")
    server = serve(tmp_path)
    stub = triton(server)
    for name, ready in (("softmax", True), ("broken", False)):
        request = service_pb2.ModelReadyRequest(name=name)
        assert stub.ModelReady(request, timeout=60).ready is ready
    assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=60).live
    # Nor is the server, and trap 26: nor do probes say so.
    assert not stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=60).ready
    assert probe(server, b"") == NOT_SERVING


def test_trap_10_the_server_is_called_triton_unless_told_otherwise(
    server: Server, examples: Path, serve: Serve
) -> None:
    named = serve(examples, "--server-name=mine")
    names = [
        triton(each).ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=60).name
        for each in (server, named)
    ]
    assert names == ["triton", "mine"]


def test_trap_11_tensors_over_4_mib_are_taken(server: Server) -> None:
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


def test_trap_24_hundreds_at_once_are_all_answered(server: Server) -> None:
    request = infer_request("softmax", Tensor.of("x", ROW))
    calls = [triton(server).ModelInfer.future(request, timeout=60) for _ in range(500)]
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_trap_26_probes_of_any_usual_name_are_answered(server: Server) -> None:
    for name in (b"", b"inference.GRPCInferenceService"):
        assert probe(server, name) == SERVING


@pytest.mark.slow
def test_trap_27_a_deadline_in_the_queue_is_told_as_one_and_leaves_the_queue(
    tmp_path: Path, serve: Serve
) -> None:
    """By a client that keeps no time itself, so that it is the server that says it."""
    files.save(files.slow(300), tmp_path, "slow")
    server = serve(tmp_path, "--shards=1", "--max-batch-size=1")
    request = infer_request("slow", Tensor.of("x", [[0]]))
    busy = []
    while not server.metric("sigmax_queued_rows", model="slow"):
        busy.append(triton(server).ModelInfer.future(request, timeout=60))
    with Wire(server) as wire:
        trailers = dict(wire.infer(request, ("grpc-timeout", "20m")))
    assert trailers["grpc-status"] == "4"
    # What the server expects the wait to be follows, where it knows that at once.
    assert unquote(trailers["grpc-message"]).startswith("Deadline Exceeded")
    assert {call.code() for call in busy} == {grpc.StatusCode.OK}
    assert server.metric("sigmax_batch_rows_count", model="slow") == len(busy)


def test_trap_29_a_streams_answers_are_tritons_message(server: Server) -> None:
    """The answer is field 2 and an error field 1; MLServer has a model's name in field 1."""
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    stream: Any = server.channel.stream_stream(path)
    requests = [infer_request(name, Tensor.of("x", ROW)) for name in ("softmax", "fish")]
    messages = (request.SerializeToString() for request in requests)
    good, bad = stream(messages, timeout=60)
    assert (good[0] >> 3, bad[0] >> 3) == (2, 1)


def test_a_client_may_send_much_ahead(server: Server) -> None:
    """HTTP/2's own 64 KiB would hold up every large tensor."""
    with Wire(server) as wire:
        assert wire.h2.remote_settings.initial_window_size >= 2**20
        assert wire.h2.outbound_flow_control_window >= 4 * 2**20
        assert wire.h2.remote_settings.max_concurrent_streams >= 1000


@pytest.mark.slow
def test_trap_31_one_callers_deadline_is_not_anothers(tmp_path: Path, serve: Serve) -> None:
    files.save(files.slow(), tmp_path, "slow")
    server = serve(tmp_path, "--shards=1")
    request = infer_request("slow", Tensor.of("x", [[0]]))
    stub = triton(server)
    first = stub.ModelInfer.future(request, timeout=60)
    hasty = [stub.ModelInfer.future(request, timeout=0.05) for _ in range(5)]
    patient = [stub.ModelInfer.future(request, timeout=60) for _ in range(5)]
    cancelled = stub.ModelInfer.future(request, timeout=60)
    cancelled.cancel()
    assert {call.code() for call in (first, *patient)} == {grpc.StatusCode.OK}
    late = {call.code() for call in hasty}
    assert late <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}
    for call in patient:
        [answer] = outputs(call.result())
        assert answer.array.tolist() == [[0.5]]


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


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("x", "failed to get model version from specified version string 'x' (details: stol)"),
        ("-1", "invalid model version specified '-1'"),
    ],
)
def test_a_version_is_a_number_above_0(server: Server, version: str, text: str) -> None:
    x = Tensor.of("x", ROW)
    found = refusal(lambda: infer(server, "softmax", x, model_version=version))
    assert found.code == "INVALID_ARGUMENT"
    assert found.message == f"{text}, version should be an integral value > 0"
