"""Fakes of NVIDIA's libraries: real shared libraries, compiled from a few lines of C."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sigmax_server.runtime import find_runtime

# The machine may be busy with other things; how long one example takes says nothing.
settings.register_profile("sigmax", deadline=None)
settings.load_profile("sigmax")

# As much of libcuda.so.1 as is asked; GPUS, VERSION and CODE, which cuInit returns, come with it.
DRIVER = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return CODE; }
int cuGetErrorString(int code, const char **text) {
    *text = code == 100 ? "no CUDA-capable device is detected" : NULL;
    return 0;
}
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDeviceGetCount(int *count) { *count = GPUS; return 0; }
int cuDeviceGet(int *handle, int number) { *handle = 70 + number; return 0; }
int cuDeviceGetName(char *name, int size, int handle) {
    strncpy(name, handle == 70 ? "Fake GPU" : "Fake GPU, the second", size);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int handle) { *bytes = (size_t)80 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int handle) {
    *value = attribute == 75 ? 9 : 0;
    return 0;
}
"""


def compiled(path: Path, *needs: Path, source: str = "", **defined: int) -> Path:
    """A shared library that is called as its file is, and needs these others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    defines = [f"-D{name}={value}" for name, value in defined.items()]
    command = ["cc", "-shared", "-fPIC", "-x", "c", *defines, "-", "-o", str(path)]
    # Without its folder: where a library lies is for the one who loads it to know.
    linked = ["-x", "none", "-Wl,--no-as-needed", *map(str, needs), f"-Wl,-soname,{path.name}"]
    subprocess.run([*command, *linked], input=source, text=True, check=True)
    return path


@pytest.fixture
def library() -> Callable[..., Path]:
    """Compiles a library: its path, those that it needs, its source."""
    return compiled


@pytest.fixture
def driver(tmp_path: Path) -> Callable[..., str]:
    """Compiles a driver: its GPUs, the CUDA that it runs and what cuInit returns to its folder."""

    def compile_driver(gpus: int = 1, version: int = 99000, code: int = 0) -> str:
        path = tmp_path / "driver/libcuda.so.1"
        compiled(path, source=DRIVER, GPUS=gpus, VERSION=version, CODE=code)
        return str(path.parent)

    return compile_driver


@pytest.fixture
def gpu_wheel(tmp_path: Path) -> Path:
    """A folder to import from, in which an ONNX Runtime has a provider for CUDA 99.

    Its own library is the installed one. The provider is an empty one that needs what a real one
    does; no machine has that, and it lies nowhere yet.
    """
    real = find_runtime()
    capi = tmp_path / "site/onnxruntime/capi"
    capi.mkdir(parents=True)
    (capi.parent / "__init__.py").write_text("raise AssertionError('was imported')")
    (capi / real.name).symlink_to(real)
    names = ("libcublasLt.so.99", "libcublas.so.99", "libcurand.so.99", "libcudart.so.99")
    needs = [compiled(tmp_path / "elsewhere" / name) for name in (*names, "libcuda.so.1")]
    compiled(capi / "libonnxruntime_providers_cuda.so", *needs)
    return tmp_path / "site"


@pytest.fixture
def toolkit() -> Callable[[Path], None]:
    """Puts CUDA's libraries into a folder to import from, as NVIDIA's wheels do."""

    def install(site: Path) -> None:
        cuda = site / "nvidia/cu99/lib"
        light = compiled(cuda / "libcublasLt.so.99")
        compiled(cuda / "libcublas.so.99", light)
        runtime = compiled(cuda / "libcudart.so.99")
        compiled(cuda / "libcurand.so.99", runtime)
        compiled(site / "nvidia/cudnn/lib/libcudnn.so.9")

    return install


@pytest.fixture
def python() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs Python in a process of its own: what a process has loaded stays loaded."""

    def run(*arguments: str | Path, **environment: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=os.environ | {name: str(value) for name, value in environment.items()},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run
