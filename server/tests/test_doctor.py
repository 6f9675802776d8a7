"""`sigmax doctor` as a process, on this machine and on fake libraries."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sigmax_server
from sigmax_server.runtime import find_runtime

Python = Callable[..., "subprocess.CompletedProcess[str]"]


def examined(python: Python, **environment: Any) -> Any:
    done = python("-m", "sigmax_server.doctor", "--json", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_what_there_is_here_is_printed(python: Python) -> None:
    facts = examined(python)
    assert facts["sigmax-server"] == sigmax_server.__version__
    assert facts["ONNX Runtime"].endswith(str(find_runtime()))
    assert "CPUExecutionProvider" in facts["providers"]
    assert "usable" in facts["cores"]
    assert "GiB usable" in facts["memory"]
    done = python("-m", "sigmax_server.doctor")
    assert done.returncode == 0
    said = done.stdout.splitlines()
    assert f"sigmax-server         {sigmax_server.__version__}" in said
    assert f"{'--device auto':22}{facts['--device auto']}" in said


def test_without_a_runtime_nothing_can_run(python: Python) -> None:
    code = (
        "import sys, sigmax_server.doctor as doctor\n"
        "sys.path = [each for each in sys.path if 'site-packages' not in each]\n"
        "sys.exit(doctor.main([]))"
    )
    done = python("-c", code)
    assert done.returncode == 1
    assert 'ONNX Runtime is not installed; install it with: pip install "sigmax-server[cpu]"' in (
        done.stdout
    )


def test_gpus_libraries_and_a_failing_trial_are_printed(
    python: Python,
    driver: Callable[..., str],
    gpu_wheel: Path,
    toolkit: Callable[[Path], None],
) -> None:
    toolkit(gpu_wheel)
    facts = examined(
        python, PYTHONPATH=gpu_wheel, LD_LIBRARY_PATH=driver(), CUDA_VISIBLE_DEVICES="0"
    )
    assert facts["NVIDIA's driver"].endswith("runs CUDA up to 99.0")
    [gpu] = facts["GPUs"]
    assert gpu.startswith("cuda:0: Fake GPU, 80.0 GiB, compute capability 9.0; cannot be used: a ")
    assert facts["CUDA_VISIBLE_DEVICES"] == "0"
    libraries = dict(each.split(": ", 1) for each in facts["CUDA's libraries"])
    assert libraries["libcublas.so.99"] == str(gpu_wheel / "nvidia/cu99/lib/libcublas.so.99")
    assert libraries["libcudnn.so.9"] == str(gpu_wheel / "nvidia/cudnn/lib/libcudnn.so.9")
    assert libraries["libcufft.so.98"] == (
        "not found; some networks need it, for Fourier transforms"
    )
    # The library beside this provider is the CPU's: it does not know it, and says so.
    assert facts["--device auto"].startswith("cpu (auto: a trial run failed: cuda:0: ")
    assert "for a GPU" not in facts


def test_what_is_missing_is_printed_with_what_mends_it(
    python: Python, driver: Callable[..., str], gpu_wheel: Path
) -> None:
    old = driver(version=12020)
    facts = examined(python, PYTHONPATH=gpu_wheel, LD_LIBRARY_PATH=old)
    assert (
        "libcublas.so.99: not found; nothing runs on a GPU without it"
        in (facts["CUDA's libraries"])
    )
    first, second = facts["for a GPU"]
    assert "runs CUDA up to 12.2, and the installed ONNX Runtime needs CUDA 99; install" in first
    assert "libcudart.so.99 not found" in second
    assert 'pip install "sigmax-server[gpu]"' in second
    assert facts["--device auto"].startswith("cpu (auto: NVIDIA's driver")
