"""The service grpc.health.v1, as load balancers and orchestrators use it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import onnx
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from support import files
from support.server import Serve, Server
from support.wire import Tensor, classify, refusal
from tritonclient.grpc import (  # type: ignore[import-untyped]
    service_pb2,
    service_pb2_grpc,
)

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)
SERVER = ["", "sigmax.v1.ClassifierService", "inference.GRPCInferenceService"]


def stub(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def check(server: Server, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return int(stub(server.channel).Check(request, timeout=60).status)


def watch(channel: grpc.Channel, service: str) -> Iterator[int]:
    """The statuses of a watch, until it ends."""
    request = health_pb2.HealthCheckRequest(service=service)
    for reply in stub(channel).Watch(request, timeout=60, wait_for_ready=True):
        yield reply.status


@pytest.mark.parametrize("service", [*SERVER, "softmax", "linear"])
def test_what_is_served_is_serving(server: Server, service: str) -> None:
    assert check(server, service) == SERVING


def test_a_check_of_an_unknown_name_is_not_found(server: Server) -> None:
    found = refusal(lambda: check(server, "fish"))
    assert (found.code, found.message) == ("NOT_FOUND", "no service or model is named 'fish'")


@pytest.fixture(scope="module")
def newest_health(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Message classes of our health.proto: grpcio-health-checking's own is too old for List."""
    proto = Path(__file__).parents[2] / "proto"
    out = tmp_path_factory.mktemp("health") / "health.binpb"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto}", "--include_imports"]
    subprocess.run(
        [*protoc, f"--descriptor_set_out={out}", "grpc/health/v1/health.proto"], check=True
    )
    described = FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    classes: dict[str, Any] = message_factory.GetMessages(described.file, pool=pool)
    return classes


def test_everything_is_listed(server: Server, newest_health: dict[str, Any]) -> None:
    call: Any = server.channel.unary_unary(
        "/grpc.health.v1.Health/List",
        request_serializer=newest_health["grpc.health.v1.HealthListRequest"].SerializeToString,
        response_deserializer=newest_health["grpc.health.v1.HealthListResponse"].FromString,
    )
    reply = call(newest_health["grpc.health.v1.HealthListRequest"](), timeout=60)
    statuses = {name: response.status for name, response in reply.statuses.items()}
    assert statuses == dict.fromkeys([*SERVER, *files.EXAMPLES], SERVING)


def test_a_watch_tells_the_present_status_at_once(server: Server) -> None:
    assert next(watch(server.channel, "softmax")) == SERVING
    assert next(watch(server.channel, "fish")) == SERVICE_UNKNOWN


def test_at_the_end_watches_are_told_and_closed(serve: Serve, tmp_path: Path) -> None:
    server = serve(files.save(files.softmax(), tmp_path, "softmax"))
    with ThreadPoolExecutor(4) as pool:
        names = [*SERVER[:2], "model", "fish"]
        watches = [watch(server.channel, name) for name in names]
        first = [next(each) for each in watches]
        rest = [pool.submit(list, each) for each in watches]
        assert server.stop() == 0
        assert first == [SERVING, SERVING, SERVING, SERVICE_UNKNOWN]
        assert [each.result() for each in rest] == [[NOT_SERVING]] * 3 + [[]]


def test_a_server_that_loads_says_so_until_it_is_ready(serve: Serve, tmp_path: Path) -> None:
    onnx.save(files.slow(turns=300), tmp_path / "slow.onnx")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, eager = f"127.0.0.1:{port}", [("grpc.initial_reconnect_backoff_ms", 100)]
    with (
        ThreadPoolExecutor(1) as pool,
        grpc.insecure_channel(
            address, options=[*eager, ("grpc.max_reconnect_backoff_ms", 100)]
        ) as channel,
    ):
        server = pool.submit(
            serve, f"--grpc-port={port}", "--max-batch-size=1", tmp_path / "slow.onnx"
        )
        whole, model = watch(channel, ""), watch(channel, "slow")
        assert next(whole) == NOT_SERVING
        assert next(model) == NOT_SERVING
        loading: Any = channel.unary_unary("/sigmax.v1.ClassifierService/GetModel")
        found = refusal(lambda: loading(b"\x0a\x04slow", timeout=60))
        assert (found.code, found.reason) == ("UNAVAILABLE", "MODEL_NOT_READY")
        assert found.message == "model 'slow' is not ready: it is being loaded"
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        is_ready = service_pb2.ModelReadyRequest(name="slow")
        assert not triton.ModelReady(is_ready, timeout=60).ready
        assert not triton.ServerReady(service_pb2.ServerReadyRequest(), timeout=60).ready
        [listed] = triton.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=60).models
        assert (listed.name, listed.state) == ("slow", "LOADING")
        assert next(model) == SERVING
        assert next(whole) == SERVING
        classify(server.result(), "slow", Tensor.of("x", [[0.0]]))


def test_the_check_of_a_container_says_whether_it_is_ready(serve: Serve, tmp_path: Path) -> None:
    good = files.save(files.softmax(), tmp_path / "good", "softmax")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    for path, code, said in ((good, 0, "ready"), (bad, 1, "not ready")):
        server = serve(path)
        done = subprocess.run(
            [sys.executable, "-m", "sigmax_server.health"],
            env=os.environ | {"SIGMAX_HTTP_PORT": server.http.rpartition(":")[2]},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert (done.returncode, done.stdout) == (code, f"{server.http}: {said}\n")
