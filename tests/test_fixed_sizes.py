"""Batches in fixed sizes and fixed memory, as on a GPU, give the same bits as others."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEST = "a_network_answers_bit_for_bit_in_every_size"
CARGO = ("cargo", "test", "--quiet", "--locked", "--manifest-path", "server/Cargo.toml")


@pytest.mark.slow
def test_every_network_answers_bit_for_bit_in_every_size(repository: Path) -> None:
    networks = sorted(repository.glob("*/1/model.onnx"))
    assert len(networks) == 7
    ran = subprocess.run(
        [*CARGO, "-p", "sigmax-core", "--lib", TEST, "--", "--nocapture"],
        env={**os.environ, "SIGMAX_NETWORKS": ":".join(map(str, networks))},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    sizes = dict(line.split(": ") for line in ran.stdout.splitlines() if "model.onnx: " in line)
    assert set(sizes) == set(map(str, networks))
    assert set(sizes.values()) == {"[1, 2, 4, 8, 11]"}
