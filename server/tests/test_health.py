"""The health check of a container, against Python's own HTTP server."""

import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

Start = Callable[[int, str], int]


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
def start() -> Iterator[Callable[..., int]]:
    """Start an HTTP server that always answers so, and return its port."""
    with ExitStack() as stack:

        def begin(status: int, text: str, tls: ssl.SSLContext | None = None) -> int:
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    assert self.path == "/readyz"
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(text.encode())

                def log_message(self, *_: object) -> None:
                    pass

            server = stack.enter_context(http.server.HTTPServer(("127.0.0.1", 0), Handler))
            if tls:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever).start()
            stack.callback(server.shutdown)
            return server.server_port

        yield begin


@pytest.mark.parametrize(("status", "state"), [(200, "ready"), (503, "not ready")])
def test_the_state_is_told(start: Start, status: int, state: str) -> None:
    port = start(status, f"{state}\n")
    assert run(SIGMAX_HTTP_PORT=port) == (int(status != 200), f"127.0.0.1:{port}: {state}\n")


def test_an_address_for_every_interface_is_asked_here(start: Start) -> None:
    port = start(200, "ready\n")
    assert run(SIGMAX_HOST="0.0.0.0", SIGMAX_HTTP_PORT=port)[0] == 0
    assert run(SIGMAX_HTTP_HOST="0.0.0.0", SIGMAX_HTTP_PORT=port)[0] == 0


def test_a_server_over_tls_is_asked_over_tls(start: Callable[..., int], tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("a.example").configure_cert(context)
    port = start(200, "ready\n", context)
    assert run(SIGMAX_HTTP_PORT=port, SIGMAX_HTTP_TLS="true")[0] == 0
    assert run(SIGMAX_HTTP_PORT=port)[0] == 1


def test_another_server_is_not_ready(start: Start) -> None:
    port = start(404, "nothing here")
    expected = "expected ready or not ready, got 404 'nothing here'"
    assert run(SIGMAX_HTTP_PORT=port) == (1, f"127.0.0.1:{port}: {expected}\n")


def test_nobody_listens(port: int) -> None:
    code, said = run(SIGMAX_HTTP_PORT=port)
    assert code == 1
    assert said.startswith(f"127.0.0.1:{port}: [Errno 111]")


def test_another_protocol_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        assert run(SIGMAX_HTTP_PORT=server.getsockname()[1])[0] == 1
        answering.join()
