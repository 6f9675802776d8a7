"""The health check of a container, against gRPC's own server and Sigmax."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from sigmax_server.health import check

STATUS = health_pb2.HealthCheckResponse


def run(**environment: object) -> tuple[int, str]:
    """Exit code and output of the command."""
    texts = {name: str(value) for name, value in environment.items()}
    done = subprocess.run(
        [sys.executable, "-m", "sigmax_server.health"],
        env=os.environ | texts,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def port() -> Iterator[int]:
    """Where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


@pytest.fixture
def servicer() -> Iterator[tuple[health.HealthServicer, int]]:
    """gRPC's own health service, and its port."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        servicer = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield servicer, port
        server.stop(None).wait()


@pytest.mark.parametrize("status", ["UNKNOWN", "SERVING", "NOT_SERVING"])
def test_the_status_is_told(servicer: tuple[health.HealthServicer, int], status: str) -> None:
    service, port = servicer
    service.set("", STATUS.ServingStatus.Value(status))
    ready = status == "SERVING"
    assert run(SIGMAX_GRPC_PORT=port) == (int(not ready), f"127.0.0.1:{port}: {status}\n")


def test_an_address_for_every_interface_is_asked_here(
    servicer: tuple[health.HealthServicer, int],
) -> None:
    service, port = servicer
    service.set("", STATUS.SERVING)
    assert run(SIGMAX_HOST="0.0.0.0", SIGMAX_GRPC_PORT=port)[0] == 0


def test_a_server_without_the_service_is_not_ready() -> None:
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with pytest.raises(OSError, match=r"expected an answer of grpc\.health\.v1, got b''"):
            check("127.0.0.1", port)
        server.stop(None).wait()


def test_nobody_listens(port: int) -> None:
    code, said = run(SIGMAX_GRPC_PORT=port)
    assert code == 1
    assert said.startswith(f"127.0.0.1:{port}: [Errno 111]")


def test_another_protocol_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(60)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")

        pool.submit(answer)
        assert run(SIGMAX_GRPC_PORT=server.getsockname()[1])[0] == 1
