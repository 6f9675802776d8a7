"""Several models on one GPU: beside each other, in too little memory, loaded under load."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support import files
from support.gpu import Gpu
from support.reference import GPU_TOLERANCE, Reference
from support.server import Serve, Server
from support.wire import at_once, load

pytestmark = pytest.mark.slow


ENOUGH = 20  # loads, to see device memory grow


def asked(server: Server, name: str, file: Path, requests: int) -> float:
    """Ask a model so many things at once; the largest difference from the CPU."""
    reference = Reference(file)
    parts = [reference.rows(1 + number % 7, seed=number) for number in range(requests)]
    answers = at_once(server, name, [reference.tensor(part) for part in parts])
    pairs = zip(parts, answers, strict=True)
    return max(float(np.abs(each.array - reference.answer(part)).max()) for part, each in pairs)


def test_models_run_beside_each_other(tmp_path: Path, serve: Serve) -> None:
    stored = {
        name: files.save(files.wide(256 * 2**n), tmp_path, name) for n, name in enumerate("abc")
    }
    stored["layers"] = files.save(files.layers(), tmp_path, "layers")
    server = serve(tmp_path, "--device=cuda")
    worst: dict[str, float] = {}

    def ask(name: str) -> None:
        worst[name] = asked(server, name, stored[name], 300)

    threads = [threading.Thread(target=ask, args=[name]) for name in stored]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: each <= GPU_TOLERANCE for name, each in worst.items()} == dict.fromkeys(
        stored, True
    )


def test_two_engines_on_one_gpu_answer_alike(tmp_path: Path, serve: Serve) -> None:
    group = "instance_group { kind: KIND_GPU count: 2 gpus: 0 }"
    files.configured(tmp_path, "layers", files.layers(), group)
    server = serve(tmp_path)
    file = tmp_path / "layers/1/model.onnx"
    assert asked(server, "layers", file, 500) <= GPU_TOLERANCE


def test_weights_beside_a_model_are_read_once(tmp_path: Path, serve: Serve) -> None:
    repository = tmp_path / "repository"
    inside = files.save(files.layers(), tmp_path / "other", "layers")
    beside = files.save_beside(files.layers(), repository, "layers")
    server = serve(repository, "--device=cuda")
    beside.write_bytes(b"\x07" * beside.stat().st_size)
    assert asked(server, "layers", inside, 100) <= GPU_TOLERANCE
    beside.write_bytes(b"")
    assert asked(server, "layers", inside, 100) <= GPU_TOLERANCE
    assert server.stop() == 0


def test_a_model_that_does_not_fit_is_refused_and_the_others_are_served(
    tmp_path: Path, serve: Serve
) -> None:
    files.save(files.wide(8192), tmp_path, "large")  # 256 MiB
    small = files.save(files.layers(), tmp_path, "small")
    server = serve(tmp_path, "--device=cuda", f"--gpu-memory-limit={128 * 2**20}")
    assert "not served: " in server.line("large")
    assert "--gpu-memory-limit is 134217728 bytes" in server.line("large")
    assert asked(server, "small", small, 20) <= GPU_TOLERANCE


def test_batches_of_all_sizes_take_no_more_memory(tmp_path: Path, serve: Serve, gpu: Gpu) -> None:
    stored = files.save(files.wide(1024), tmp_path, "wide")
    server = serve(tmp_path, "--device=cuda", "--max-batch-size=256")
    before = gpu.memory_used()
    assert asked(server, "wide", stored, 2000) <= GPU_TOLERANCE
    assert gpu.memory_used() <= before + gpu.slack


def test_reloading_under_load_loses_no_request_and_no_memory(
    tmp_path: Path, serve: Serve, gpu: Gpu
) -> None:
    stored = files.save(files.wide(1024), tmp_path, "wide")
    flags = ("--device=cuda", "--model-control=explicit", "--load-model=*", "--max-batch-size=8")
    server = serve(tmp_path, *flags)
    over = threading.Event()
    worst: list[float] = []

    def ask() -> None:
        while not over.is_set():
            worst.append(asked(server, "wide", stored, 50))

    before = gpu.memory_used()
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(ENOUGH):
            load(server, "wide")
    finally:
        over.set()
        thread.join()
    assert worst
    assert max(worst) <= GPU_TOLERANCE
    # The last model but one may have been asked to the end.
    patience = time.monotonic() + 60
    while (used := gpu.memory_used()) > before + gpu.slack:
        assert time.monotonic() < patience, f"{used} bytes, {before} before"
