"""Clients on the same machine, by a Unix domain socket."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sigmax
from support.server import Serve
from support.wire import Tensor, classify_request

SIGMAX = Path(sys.executable).with_name("sigmax")
ZERO = np.zeros((1, 5), np.float32)


def test_both_ways_lead_to_the_same_models(tmp_path: Path, examples: Path, serve: Serve) -> None:
    path = tmp_path / "sigmax.sock"
    server = serve(examples, f"--listen=unix:{path}")
    with sigmax.Client(f"unix:{path}", timeout=60) as client:
        here = client.classify("softmax", ZERO)
    assert here.label == server.client.classify("softmax", ZERO).label
    assert server.metric("sigmax_connections_total") == 2
    assert server.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("several", [False, True], ids=["a path", "several addresses"])
def test_the_authority_that_grpc_makes_of_a_target_is_taken(
    tmp_path: Path, examples: Path, serve: Serve, several: bool
) -> None:
    """Plain grpcio, without a channel option: it sends `%2Ftmp%2F...` and `127.0.0.1:1%2C...`."""
    path = tmp_path / "sigmax.sock"
    server = serve(examples, f"--listen=unix:{path}")
    target = f"ipv4:{server.grpc},{server.grpc}" if several else f"unix:{path}"
    request = classify_request("softmax", Tensor.of("x", ZERO)).SerializeToString()
    with grpc.insecure_channel(target) as channel:
        ask: Any = channel.unary_unary("/sigmax.v1.ClassifierService/Classify")
        assert ask(request, timeout=60)


def test_a_file_that_nobody_listens_at_is_replaced(
    tmp_path: Path, examples: Path, serve: Serve
) -> None:
    path = tmp_path / "sigmax.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = serve(examples, f"--listen=unix:{path}")
    with sigmax.Client(f"unix:{path}", timeout=60) as client:
        assert client.classify("softmax", ZERO).probability > 0
    assert server.stop() == 0


def test_a_socket_in_use_and_another_file_stay(
    tmp_path: Path, examples: Path, serve: Serve
) -> None:
    path, file = tmp_path / "sigmax.sock", tmp_path / "file"
    serve(examples, f"--listen=unix:{path}")
    file.write_text("not a socket")
    for taken in (path, file):
        second = subprocess.run(
            [SIGMAX, "serve", examples, "--grpc-port=0", "--http-port=0", f"--listen=unix:{taken}"],
            capture_output=True,
            text=True,
        )
        assert second.returncode == 1
        assert f"cannot listen on unix:{taken}: " in second.stderr
    assert file.read_text() == "not a socket"
    with sigmax.Client(f"unix:{path}", timeout=60) as client:
        assert client.classify("softmax", ZERO).probability > 0


def test_a_polling_server_answers_the_same(examples: Path, serve: Serve) -> None:
    server = serve(examples, "--busy-poll-microseconds=1000")
    labels = {server.client.classify("softmax", ZERO).label for _ in range(200)}
    assert len(labels) == 1
