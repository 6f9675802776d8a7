"""Servers on a GPU: the machine's own, or a simulated one where there is none."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from support import gpu as gpus
from support.gpu import Gpu, SimulatedGpu
from support.server import Serve, Server


@cache
def device() -> str:
    """What `--device auto` takes here, and why."""
    command = [sys.executable, "-m", "sigmax_server.doctor", "--json"]
    facts = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return str(facts["--device auto"])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not device().startswith("cuda:"):
        pytest.skip(f"it needs an NVIDIA GPU; here is {device()}")


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> SimulatedGpu:
    """A simulated GPU."""
    if platform.machine() != "x86_64":
        pytest.skip(f"onnxruntime-gpu has no wheel for {platform.machine()}")
    return gpus.simulated(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="session")
def gpu(request: pytest.FixtureRequest) -> Gpu:
    """The machine's GPU, or a simulated one."""
    if device().startswith("cuda:"):
        return Gpu()
    found: SimulatedGpu = request.getfixturevalue("simulated")
    return found


@pytest.fixture(scope="session")
def gpu_server(
    gpu: Gpu, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serves the seven networks on the first GPU; shared by all tests, so none may stop it."""
    log = tmp_path_factory.mktemp("gpu") / "log"
    arguments = (repository, "--device=cuda", "--max-batch-size=256")
    with Server(log, *arguments, python=gpu.python, environment=gpu.environment) as server:
        yield server


@pytest.fixture
def serve(gpu: Gpu, tmp_path: Path) -> Iterator[Serve]:
    """Starts servers for one test: arguments of `sigmax serve` to a `Server`."""
    with ExitStack() as running:

        def start(*arguments: str | Path, **environment: str) -> Server:
            log = tmp_path / f"server-{os.urandom(4).hex()}.log"
            settings = {**gpu.environment, **environment}
            server = Server(log, *arguments, python=gpu.python, environment=settings)
            return running.enter_context(server)

        yield start
