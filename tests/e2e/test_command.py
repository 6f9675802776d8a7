"""The command and the SDK with a real server: rows from files, images, a server that is late."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sigmax
from PIL import Image
from sigmax._cli import main
from support.server import Serve, Server

ROWS = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0.5, 0, 0, 0, 0]], np.float32)


def said(capsys: pytest.CaptureFixture[str], server: Server, *arguments: str | Path) -> list[Any]:
    """What the command prints, as JSON."""
    asked = [*map(str, arguments), "--address", server.grpc, "--timeout=60", "--output=json"]
    assert main(asked) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_way_to_give_rows_has_the_same_answer(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    np.savez(tmp_path / "rows.npz", x=ROWS)
    np.savetxt(tmp_path / "rows.csv", ROWS, fmt="%g", delimiter=",")
    lines = [json.dumps(row) for row in ROWS.tolist()]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    expected = said(capsys, server, "classify", "softmax", json.dumps(ROWS.tolist()))
    assert len(expected) == 3
    for flag, name in (("json", "jsonl"), ("csv", "csv"), ("npy", "npy"), ("npz", "npz")):
        assert said(
            capsys, server, "classify", "softmax", f"--{flag}", tmp_path / f"rows.{name}"
        ) == (expected)


def test_texts_from_csv(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.csv").write_text("animal\nfish\nfowl\n")
    answers = said(capsys, server, "classify", "fish-or-fowl", "--csv", tmp_path / "texts.csv")
    assert [answer["decision"][0]["label"] for answer in answers] == ["fish", "fowl"]


def test_an_image_arrives_as_it_is(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    [answer] = said(capsys, server, "infer", "identity-uint8", "--image", tmp_path / "image.png")
    assert answer["outputs"]["y"] == pixels.tolist()


def test_a_server_that_starts_late_is_reached(examples: Path, serve: Serve) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started: list[Server] = []
    starter = threading.Timer(2.0, lambda: started.append(serve(examples, f"--grpc-port={port}")))
    starter.start()
    with sigmax.Client(f"127.0.0.1:{port}", timeout=60) as client:
        assert len(client.classify("softmax", ROWS)) == 3
    starter.join()
    assert started
