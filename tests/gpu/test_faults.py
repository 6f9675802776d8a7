"""Faults of a GPU and their effects; the simulated GPU makes faults on demand."""

from pathlib import Path

import pytest
from support import files
from support.gpu import SimulatedGpu
from support.reference import Asked
from support.server import Serve
from support.wire import refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

pytestmark = pytest.mark.slow

# Of CUDA's errors: one of a kernel, after which the process has lost the GPU, and one of a launch.
ILLEGAL_ADDRESS = 700
TOO_LARGE_A_LAUNCH = 701
OUT_OF_MEMORY = 2

# As graphs, and without: what holds the GPU's memory differs.
every_way = pytest.mark.parametrize("build", [files.layers, files.looped])


@pytest.fixture
def gpu(simulated: SimulatedGpu) -> SimulatedGpu:
    return simulated


@every_way
def test_a_fault_that_passes_costs_a_batch_and_an_engine(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu, build: files.Build
) -> None:
    file = files.save(build(), tmp_path, "model")
    server = serve(tmp_path, "--device=cuda")
    model = Asked(server, "model", file)
    model.ask()
    used = gpu.memory_used()
    gpu.fail(TOO_LARGE_A_LAUNCH)
    assert refusal(model.ask).code == "INTERNAL"
    server.until_logged("an engine is lost")
    model.ask()
    assert server.metric("sigmax_worker_faults_total", model="model") == 1
    assert server.metric("sigmax_workers", model="model") == 1
    assert gpu.memory_used() <= used


def test_too_little_memory_for_a_run_costs_a_batch(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu
) -> None:
    file = files.save(files.layers(), tmp_path, "layers")
    server = serve(tmp_path, "--device=cuda")
    model = Asked(server, "layers", file)
    gpu.fail(OUT_OF_MEMORY)
    assert refusal(model.ask).code == "INTERNAL"
    model.ask()
    assert server.metric("sigmax_worker_faults_total", model="layers") == 0


@every_way
def test_a_lost_gpu_takes_its_models_with_it_and_no_others(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu, build: files.Build
) -> None:
    file = files.save(build(), tmp_path, "there")
    files.configured(tmp_path, "here", files.linear(), "instance_group { kind: KIND_CPU }")
    server = serve(tmp_path, "--device=cuda")
    there = Asked(server, "there", file)
    here = Asked(server, "here", tmp_path / "here/1/model.onnx")
    gpu.fail(ILLEGAL_ADDRESS)
    assert refusal(there.ask).code == "INTERNAL"
    server.until_logged("an illegal memory access was encountered")
    refused = refusal(there.ask)
    assert refused.code == "UNAVAILABLE"
    assert "no engine is left on cuda:0" in refused.message
    here.ask()
    assert server.get("/readyz")[0] == 503
    assert server.metric("sigmax_workers", model="there") == 0
    assert server.stop() == 0


def test_a_model_that_nobody_asks_is_not_ready_when_its_gpu_is_lost(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu
) -> None:
    file = files.save(files.layers(), tmp_path, "asked")
    files.save(files.layers(), tmp_path, "idle")
    server = serve(tmp_path, "--device=cuda")
    gpu.fail(ILLEGAL_ADDRESS)
    refusal(Asked(server, "asked", file).ask)
    server.until(0, "sigmax_workers", model="idle")
    request = service_pb2.ModelReadyRequest(name="idle")
    assert not triton(server).ModelReady(request, timeout=60).ready


def test_one_of_two_gpus_is_lost(tmp_path: Path, serve: Serve, gpu: SimulatedGpu) -> None:
    file = files.save(files.layers(), tmp_path, "layers")
    server = serve(tmp_path, "--device=cuda:0,1", SIMULATED_GPUS="2")
    model = Asked(server, "layers", file)
    assert all(gpu.counts().used)
    gpu.fail(ILLEGAL_ADDRESS)
    assert refusal(model.ask).code == "INTERNAL"
    for _ in range(20):
        model.ask()
    assert server.metric("sigmax_workers", model="layers") == 1
    assert server.get("/readyz")[0] == 200
    assert server.stop() == 0


def test_a_model_that_does_not_fit_in_memory_is_refused_with_figures(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu
) -> None:
    files.save(files.wide(2048), tmp_path, "large")  # 16 MiB
    file = files.save(files.layers(), tmp_path, "small")
    server = serve(tmp_path, "--device=cuda", SIMULATED_GPU_MIB="12")
    assert "not served: " in server.line("large")
    assert "MiB" in server.line("large")
    Asked(server, "small", file).ask()
