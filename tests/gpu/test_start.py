"""The start of a server on a GPU, and what it prints."""

from pathlib import Path

import numpy as np
import pytest
from support import files
from support.reference import Asked
from support.server import Serve
from support.wire import Tensor, infer, load

pytestmark = pytest.mark.slow


def test_auto_tells_the_times_of_both_and_takes_the_better(tmp_path: Path, serve: Serve) -> None:
    files.save(files.layers(), tmp_path, "layers")
    server = serve(tmp_path)
    lines = [line for line in server.printed.splitlines() if line.startswith("layers: ")]
    rates = {}
    for device in ("cuda:0", "cpu"):
        [line] = [line for line in lines if line.startswith(f"layers: {device}: ")]
        rates[device] = float(line.partition("for a row, ")[2].split()[0].replace(",", ""))
    taken = server.client.model("layers").device
    assert rates[taken] == max(rates.values())


def test_a_model_may_ask_for_the_cpu(tmp_path: Path, serve: Serve) -> None:
    files.configured(tmp_path, "here", files.layers(), "instance_group { kind: KIND_CPU }")
    files.configured(tmp_path, "there", files.layers(), "instance_group { kind: KIND_GPU }")
    server = serve(tmp_path, "--device=cuda")
    assert server.client.model("here").device == "cpu"
    assert server.client.model("there").device.startswith("cuda:0")


def test_a_plain_network_is_replayed_as_graphs(tmp_path: Path, serve: Serve) -> None:
    files.save(files.layers(), tmp_path, "layers")
    assert "CUDA graphs off" not in serve(tmp_path, "--device=cuda").printed


def test_a_network_with_a_loop_runs_without_graphs_and_says_why(
    tmp_path: Path, serve: Serve
) -> None:
    file = files.save(files.looped(), tmp_path, "looped")
    server = serve(tmp_path, "--device=cuda")
    assert "looped: CUDA graphs off: " in server.printed
    Asked(server, "looped", file).ask()


def test_an_output_that_is_an_input_is_answered_with_it(tmp_path: Path, serve: Serve) -> None:
    files.save(files.passed_on(), tmp_path, "model")
    server = serve(tmp_path, "--device=cuda")
    assert "model: CUDA graphs off: output 'x' is an input" in server.printed
    for size in (1, 3, 16):
        rows = np.random.default_rng(size).normal(size=(size, 4)).astype(np.float32)
        answers = infer(server, "model", Tensor.of("x", rows))
        assert (answers[1].array == rows).all()


def test_a_capture_that_fails_harms_nobody(tmp_path: Path, serve: Serve) -> None:
    """A weight as an output is copied while the run is set up, which no capture allows."""
    other = files.save(files.layers(), tmp_path, "other")
    files.save(files.weight_told(), tmp_path, "model")
    server = serve(tmp_path, "--device=cuda", "--model-control=explicit", "--load-model=*")
    assert "model: CUDA graphs off: " in server.printed
    asked = Asked(server, "other", other)
    for _ in range(3):
        asked.ask()
        load(server, "model")
    rows = np.eye(3, dtype=np.float32)
    product, weight = infer(server, "model", Tensor.of("x", rows))
    assert (product.array == weight.array).all()
    assert server.metric("sigmax_worker_faults_total") == 0
