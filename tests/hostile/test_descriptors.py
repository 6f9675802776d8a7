"""Operators get answers, however many clients connect and however few files may be open."""

import re
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sigmax
from support import files
from support.certificates import Authority
from support.server import Server

pytestmark = pytest.mark.slow

Limited = Callable[..., Server]
"""A function that starts a server, given its soft and hard limit of open files and arguments."""


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Limited]:
    files.save(files.softmax(), tmp_path / "models", "softmax")
    with ExitStack() as running:

        def start(soft: int, hard: int, *arguments: str, **others: Any) -> Server:
            limit = f"ulimit -S -n {soft}; ulimit -H -n {hard}"
            others = {"before": limit, **others}
            server = Server(tmp_path / "log", tmp_path / "models", *arguments, **others)
            return running.enter_context(server)

        yield start


@pytest.fixture
def connect() -> Iterator[Callable[[str], socket.socket]]:
    """A function that opens connections, which stay open until the test ends."""
    with ExitStack() as opened:

        def start(address: str) -> socket.socket:
            host, port = address.rsplit(":", 1)
            return opened.enter_context(socket.create_connection((host, int(port)), timeout=60))

        yield start


def descriptors(server: Server) -> list[int]:
    return [int(link.name) for link in Path(f"/proc/{server.process.pid}/fd").iterdir()]


def is_well(server: Server) -> None:
    assert server.get("/healthz") == (200, "alive\n")
    assert server.get("/readyz") == (200, "ready\n")
    with sigmax.Client(server.grpc, timeout=60) as client:
        assert client.classify("softmax", [0.0] * 5)


@pytest.mark.parametrize("sent", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"])
def test_http_clients_that_wait_leave_room_for_others(
    limited: Limited, connect: Callable[[str], socket.socket], sent: bytes
) -> None:
    server = limited(256, 256)
    before = len(descriptors(server))
    for _ in range(280):
        connect(server.http).sendall(sent)
    is_well(server)
    assert len(descriptors(server)) <= before + 2
    assert server.stop() == 0


def test_a_connection_has_one_request(server: Server) -> None:
    host, port = server.http.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        with connection.makefile("rb") as answer:
            text = answer.read()  # reads to the end, so the server must close the connection
    assert text.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in text


def test_the_limit_of_open_files_is_raised(
    limited: Limited, connect: Callable[[str], socket.socket]
) -> None:
    server = limited(64, 1024)
    for _ in range(200):
        connect(server.grpc)
    is_well(server)
    assert server.metric("sigmax_connections_refused_total") == 0
    assert server.metric("sigmax_connections_evicted_total") == 0
    assert server.metric("sigmax_connections_total") >= 200
    server.until_logged("is lowered to")  # 4096 connections do not fit into 1024 files


def test_what_does_not_fit_is_said_once_with_figures(
    limited: Limited, connect: Callable[[str], socket.socket]
) -> None:
    server = limited(64, 64, "--shards=1")
    pattern = (
        r"--max-connections, which is 4096, is lowered to (\d+): the process may have 64 files"
    )
    [most] = map(int, re.findall(pattern, server.until_logged("is lowered to")))
    assert 1 < most < 64
    for _ in range(200):
        connect(server.grpc)
    assert server.get("/healthz") == (200, "alive\n")
    assert server.get("/readyz") == (200, "ready\n")
    assert server.metric("sigmax_connections_evicted_total") >= 1
    assert server.stop() == 0
    assert len(server.log().splitlines()) < 40


@pytest.mark.parametrize("over", ["plain", "TLS"])
def test_a_probe_gets_in_where_no_descriptor_is_left(
    limited: Limited, connect: Callable[[str], socket.socket], tmp_path: Path, over: str
) -> None:
    """No descriptor is left, because the limit is lowered while the server runs."""
    if over == "TLS":
        authority = Authority(tmp_path / "certificates")
        flags = (*authority.issue().flags, "--http-tls")
        server = limited(1024, 1024, *flags, authority=authority.path)
    else:
        server = limited(1024, 1024)
    full = max(descriptors(server)) + 1
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (full, full))
    for _ in range(full):
        connect(server.grpc)
    for _ in range(5):
        assert server.get("/healthz") == (200, "alive\n")
    silent = [connect(server.http) for _ in range(40)]
    assert server.get("/healthz") == (200, "alive\n")
    assert silent[0].recv(1) == b""  # the oldest connection was closed to make room
    server.until_logged("Too many open files")
