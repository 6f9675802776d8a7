"""Whether server and its models are ready, as clients and probes ask it, and what it is called."""

from pathlib import Path
from typing import Any

from support import files
from support.server import Serve, Server
from support.wire import refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def probe(server: Server, service: bytes) -> bytes:
    """What grpc.health.v1 says of a service, as it is on the wire."""
    call: Any = server.channel.unary_unary("/grpc.health.v1.Health/Check")
    request = b"\n" + bytes([len(service)]) + service if service else b""
    return bytes(call(request, timeout=60))


def test_an_unknown_model_is_not_ready_and_no_error(server: Server) -> None:
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


def test_a_model_that_failed_is_not_ready_and_no_error(tmp_path: Path, serve: Serve) -> None:
    files.save(files.softmax(), tmp_path, "softmax")
    files.save(files.unknown_operator(), tmp_path, "broken")
    server = serve(tmp_path)
    stub = triton(server)
    for name, ready in (("softmax", True), ("broken", False)):
        request = service_pb2.ModelReadyRequest(name=name)
        assert stub.ModelReady(request, timeout=60).ready is ready
    assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=60).live
    # Nor is the server, nor do probes say so.
    assert not stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=60).ready
    assert probe(server, b"") == NOT_SERVING


def test_the_server_is_called_triton_unless_told_otherwise(
    server: Server, examples: Path, serve: Serve
) -> None:
    named = serve(examples, "--server-name=mine")
    names = [
        triton(each).ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=60).name
        for each in (server, named)
    ]
    assert names == ["triton", "mine"]


def test_probes_of_any_usual_name_are_answered(server: Server) -> None:
    for name in (b"", b"inference.GRPCInferenceService"):
        assert probe(server, name) == SERVING
