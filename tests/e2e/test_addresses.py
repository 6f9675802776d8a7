"""Hosts of IPv4 and IPv6, as they are written in settings and as they are printed."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sigmax
from support import files
from support.server import Serve


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as trial:
            trial.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def health(host: str, address: str) -> tuple[int, str]:
    """Exit code and output of a container's health check."""
    done = subprocess.run(
        [sys.executable, "-m", "sigmax_server.health"],
        env={**os.environ, "SIGMAX_HOST": host, "SIGMAX_HTTP_PORT": address.rpartition(":")[2]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("host", "shown", "reached"),
    [
        ("127.0.0.1", "127.0.0.1", ["127.0.0.1"]),
        ("localhost", None, ["localhost"]),
        ("0.0.0.0", "0.0.0.0", ["127.0.0.1"]),
        pytest.param("::1", "[::1]", ["[::1]"], marks=ipv6),
        pytest.param("[::1]", "[::1]", ["[::1]"], marks=ipv6),
        pytest.param("::", "[::]", ["[::1]", "127.0.0.1"], marks=ipv6),
        pytest.param("[::]", "[::]", ["[::1]", "127.0.0.1"], marks=ipv6),
        pytest.param("::ffff:127.0.0.1", "[::ffff:127.0.0.1]", ["127.0.0.1"], marks=ipv6),
    ],
)
def test_a_host_serves_and_its_health_is_told(
    serve: Serve, tmp_path: Path, host: str, shown: str | None, reached: list[str]
) -> None:
    files.save(files.softmax(), tmp_path, "softmax")
    server = serve(tmp_path, f"--host={host}", "--insecure")
    name, port = server.grpc.rsplit(":", 1)
    if shown is not None:
        assert name == shown
        assert server.http.rsplit(":", 1)[0] == shown
    assert server.get("/readyz") == (200, "ready\n")
    bare = host.strip("[]")
    written = f"[{bare}]" if ":" in bare else bare
    http_port = server.http.rsplit(":", 1)[1]
    assert health(host, server.http) == (0, f"{written}:{http_port}: ready\n")
    for each in reached:
        with sigmax.Client(f"{each}:{port}", timeout=60) as client:
            assert client.classify("softmax", [0.0] * 5)
    server.stop()
    is_loopback = "--insecure" not in server.log()
    assert is_loopback == (bare in ("127.0.0.1", "localhost", "::1"))


@ipv6
def test_an_address_that_is_taken_is_named(serve: Serve, tmp_path: Path) -> None:
    files.save(files.softmax(), tmp_path, "softmax")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=rf"cannot listen on \[::1\]:{port}: "):
            serve(tmp_path, "--host=::1", f"--grpc-port={port}")
