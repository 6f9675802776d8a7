"""The calls of CUDA and their order, which only the simulated GPU shows."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import files
from support.gpu import SimulatedGpu
from support.reference import Asked
from support.server import Serve

pytestmark = pytest.mark.slow

CAPTURABLE = """
import sys
import onnxruntime
cuda = ("CUDAExecutionProvider", {"enable_cuda_graph": "1"})
for file in sys.argv[1:]:
    session = onnxruntime.InferenceSession(file, providers=[cuda])
    assert session.get_providers()[0] == cuda[0], file
"""
# Most that an answer in TF32 may differ: it has 10 bits of each factor.
TF32_TOLERANCE = 5e-3


@pytest.fixture
def gpu(simulated: SimulatedGpu) -> SimulatedGpu:
    return simulated


def test_a_batch_is_a_replay_and_all_else_is_done_before_the_first(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu
) -> None:
    file = files.save(files.layers(), tmp_path, "layers")
    server = serve(tmp_path, "--device=cuda", "--max-batch-size=64")
    model = Asked(server, "layers", file)
    before = gpu.counts()
    # 1, 2, 4, ... 64 rows; and two sizes of the network that the GPU has been tried with.
    assert before.captures == 7 + 2
    sizes = range(1, 65)
    for size in sizes:
        model.ask(size)
    after = gpu.counts()
    assert after.replays - before.replays == len(sizes)
    assert after.kernels == before.kernels
    assert after.allocations == before.allocations
    assert after.captures == before.captures


@pytest.mark.parametrize("build", [files.layers, files.looped])
def test_a_server_gives_back_all_memory(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu, build: files.Build
) -> None:
    file = files.save(build(), tmp_path, "model")
    server = serve(tmp_path, "--device=cuda")
    Asked(server, "model", file).ask()
    assert gpu.memory_used() > 0
    assert server.stop() == 0
    assert gpu.memory_used() == 0


@pytest.mark.parametrize("number", [0, 1])
def test_the_gpu_that_is_named_is_the_one_that_is_used(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu, number: int
) -> None:
    file = files.save(files.layers(), tmp_path, "layers")
    server = serve(tmp_path, f"--device=cuda:{number}", SIMULATED_GPUS="2")
    Asked(server, "layers", file).ask()
    assert [used > 0 for used in gpu.counts().used] == [number == 0, number == 1]


def test_products_are_in_fp32_unless_tf32_is_asked_for(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu
) -> None:
    file = files.save(files.wide(64), tmp_path, "wide")
    exact = Asked(serve(tmp_path, "--device=cuda"), "wide", file)
    rounded = Asked(serve(tmp_path, "--device=cuda", "--tf32"), "wide", file)
    assert rounded.ask(64, TF32_TOLERANCE) > 10 * exact.ask(64)


def test_what_the_gpu_cannot_run_is_not_served_from_it(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu
) -> None:
    """There is no cuDNN, which only convolutions need."""
    file = files.save(files.convolution(), tmp_path, "convolution")
    server = serve(tmp_path, "--device=cuda")
    assert "not served: it cannot be run on cuda:0: " in server.line("convolution")
    assert "cuDNN" in server.line("convolution")
    server = serve(tmp_path)
    model = server.client.model("convolution")
    assert model.device == "cpu"
    assert "not cuda:0: " in model.device_reason
    Asked(server, "convolution", file).ask()


def test_every_network_lies_on_the_gpu_as_a_whole(repository: Path, gpu: SimulatedGpu) -> None:
    """One that does not can be captured by no graph, and ONNX Runtime refuses its session."""
    networks = sorted(map(str, repository.glob("*/1/model.onnx")))
    assert len(networks) == 7
    searched = f"{gpu.environment['LD_LIBRARY_PATH']}:{gpu.libraries}"
    subprocess.run(
        [gpu.python, "-c", CAPTURABLE, *networks],
        env=os.environ | {"LD_LIBRARY_PATH": searched},
        check=True,
    )


def test_libraries_that_come_as_wheels_are_found(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu
) -> None:
    wheels = tmp_path / "wheels"
    shutil.copytree(gpu.libraries, wheels / "nvidia/cu13/lib")
    file = files.save(files.layers(), tmp_path / "repository", "layers")
    settings = {"CUDA_HOME": "", "PYTHONPATH": str(wheels)}
    server = serve(tmp_path / "repository", "--device=cuda", **settings)
    Asked(server, "layers", file).ask()


@pytest.mark.parametrize("missing", ["libcublas.so.13", "libcurand.so.10", "libcudart.so.13"])
def test_a_library_that_is_missing_is_named(
    tmp_path: Path, serve: Serve, gpu: SimulatedGpu, missing: str
) -> None:
    toolkit = tmp_path / "cuda"
    shutil.copytree(gpu.libraries, toolkit / "lib64")
    (toolkit / "lib64" / missing).unlink()
    files.save(files.layers(), tmp_path / "repository", "layers")
    with pytest.raises(AssertionError, match="it never started: ") as error:
        serve(tmp_path / "repository", "--device=cuda", CUDA_HOME=str(toolkit))
    assert missing in str(error.value)
    assert str(toolkit / "lib64") in str(error.value)


def test_the_doctor_sees_it(gpu: SimulatedGpu) -> None:
    command = [str(gpu.python.with_name("sigmax")), "doctor", "--json"]
    done = subprocess.run(
        command, env=os.environ | gpu.environment, check=True, stdout=subprocess.PIPE
    )
    facts = json.loads(done.stdout)
    assert facts["--device auto"].startswith("cuda:0 or cpu")
