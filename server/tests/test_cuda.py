"""The examination of CUDA, on real libraries that are fakes."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sigmax_server import cuda, elf

Compile = Callable[..., Path]
Python = Callable[..., "subprocess.CompletedProcess[str]"]

DRIVER = """
import json, sys
from dataclasses import asdict
from sigmax_server import cuda
print(json.dumps(asdict(cuda.driver())))
"""
LOAD = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from sigmax_server import cuda
found = cuda.load(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]])
print(json.dumps({each.name: asdict(each) for each in found}))
"""


def asked(python: Python, folder: str | Path) -> Any:
    done = python("-c", DRIVER, LD_LIBRARY_PATH=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def loaded(python: Python, *arguments: Path, **environment: Any) -> Any:
    done = python("-c", LOAD, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_libraries_that_a_library_needs_are_read_from_its_file(
    library: Compile, tmp_path: Path
) -> None:
    first = library(tmp_path / "libfirst.so.1")
    second = library(tmp_path / "libsecond.so.2")
    needed = elf.needed(library(tmp_path / "lib.so", second, first))
    assert needed[:2] == ["libsecond.so.2", "libfirst.so.1"]


@pytest.mark.parametrize("content", [b"", b"\x7fELF\1\1", b"INPUT(libcudart.so.99)" * 10])
def test_what_is_no_shared_library_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lib.so").write_bytes(content)
    with pytest.raises(ValueError, match=r"lib\.so: expected a shared library"):
        elf.needed(tmp_path / "lib.so")


def test_the_driver_names_its_gpus(python: Python, driver: Callable[..., str]) -> None:
    found = asked(python, driver(gpus=2, version=12040))
    assert found["cuda"] == [12, 4]
    assert found["problem"] == ""
    gpu = {"number": 0, "name": "Fake GPU", "memory": 80 * 2**30, "capability": "9.0"}
    assert found["gpus"] == [gpu, gpu | {"number": 1, "name": "Fake GPU, the second"}]


def test_without_a_driver_the_loader_says_so(
    python: Python, library: Compile, tmp_path: Path
) -> None:
    # One that no loader takes hides the machine's own, where it has any.
    (tmp_path / "libcuda.so.1").write_bytes(b"\x7fELF")
    found = asked(python, tmp_path)
    assert (found["cuda"], found["gpus"]) == ([0, 0], [])
    assert "libcuda.so.1: file too short" in found["problem"]


def test_a_library_that_is_no_driver_is_a_problem(
    python: Python, library: Compile, tmp_path: Path
) -> None:
    library(tmp_path / "libcuda.so.1")
    assert "undefined symbol: cuInit" in asked(python, tmp_path)["problem"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (100, "cuInit: no CUDA-capable device is detected (100)"),
        (999, "cuInit: an error it has no words for (999)"),
    ],
)
def test_a_driver_that_fails_is_quoted(
    python: Python, driver: Callable[..., str], code: int, problem: str
) -> None:
    assert asked(python, driver(code=code))["problem"] == problem


def test_a_driver_without_a_gpu_is_a_problem(python: Python, driver: Callable[..., str]) -> None:
    assert asked(python, driver(gpus=0))["problem"] == "it has no GPU"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15\n",
            "535.104.05",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n",
            "580.65.06",
        ),
        ("something else\n", ""),
    ],
)
def test_the_kernel_module_tells_the_drivers_version(
    tmp_path: Path, text: str, version: str
) -> None:
    file = tmp_path / "proc/driver/nvidia/version"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert cuda.driver(tmp_path).version == version


def test_folders_are_those_of_wheels_then_of_toolkits(tmp_path: Path) -> None:
    wheels = [tmp_path / "site/nvidia/cu99/lib", tmp_path / "site/nvidia/cudnn/lib"]
    toolkit = tmp_path / "cuda-13/lib64"
    for folder in (*wheels, toolkit, tmp_path / "site/other/lib"):
        folder.mkdir(parents=True)
    environment = {"CUDA_HOME": str(tmp_path / "cuda-13"), "CUDA_PATH": str(tmp_path / "nothing")}
    found = cuda.folders(environment, [str(tmp_path / "site"), str(tmp_path / "missing")])
    assert found[:3] == [*wheels, toolkit]
    assert not any(folder.is_relative_to(tmp_path) for folder in found[3:])


def test_a_toolkit_whose_name_is_too_long_is_none(tmp_path: Path) -> None:
    assert cuda.folders({"CUDA_HOME": "x" * 5000}, []) == cuda.folders({}, [])


def test_a_library_that_is_cut_short_is_named(
    python: Python, library: Compile, gpu_wheel: Path, tmp_path: Path
) -> None:
    """The loader itself would end the process."""
    whole = library(tmp_path / "a/libcudart.so.99")
    whole.write_bytes(whole.read_bytes()[:4096])
    provider = gpu_wheel / "onnxruntime/capi/libonnxruntime_providers_cuda.so"
    found = loaded(python, provider, tmp_path / "a")["libcudart.so.99"]
    assert "libcudart.so.99: expected a shared library" in found["problem"]


def test_libraries_are_loaded_in_order_without_a_search_path(
    python: Python, library: Compile, gpu_wheel: Path, tmp_path: Path
) -> None:
    """The second needs the first, which lies in a folder that the loader knows nothing of."""
    first = library(tmp_path / "a/libcublasLt.so.99")
    library(tmp_path / "b/libcublas.so.99", first)
    # Of a toolkit, whose files have longer names.
    runtime = library(tmp_path / "b/libcudart.so.99.0.48")
    (tmp_path / "b/libcudart.so.99").symlink_to(runtime)
    library(tmp_path / "b/libcurand.so.99")
    provider = gpu_wheel / "onnxruntime/capi/libonnxruntime_providers_cuda.so"
    found = loaded(python, provider, tmp_path / "b", tmp_path / "a")
    assert list(found)[:4] == [
        *("libcublasLt.so.99", "libcublas.so.99", "libcurand.so.99", "libcudart.so.99")
    ]
    assert found["libcublas.so.99"]["path"] == str(tmp_path / "b/libcublas.so.99")
    assert found["libcublasLt.so.99"]["path"] == str(first)
    assert [each["problem"] for each in found.values()][:4] == [""] * 4
    later = {name: each["use"] for name, each in found.items() if each["use"]}
    assert later == {
        "libcudnn.so.9": "convolutions and pooling",
        "libcufft.so.98": "Fourier transforms",
        "libnvrtc.so.99": "kernels compiled at run time",
    }


def test_what_cannot_be_loaded_is_named_with_the_loaders_words(
    python: Python, library: Compile, gpu_wheel: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/libcudart.so.99").write_bytes(b"\x7fELF\2\1")
    needy = library(tmp_path / "elsewhere/libnvJitLink.so.13")
    library(tmp_path / "a/libcurand.so.99", needy)
    provider = gpu_wheel / "onnxruntime/capi/libonnxruntime_providers_cuda.so"
    found = loaded(python, provider, tmp_path / "a")
    assert found["libcublas.so.99"]["problem"] == "not found"
    assert found["libcurand.so.99"]["problem"] == (
        "libnvJitLink.so.13: cannot open shared object file: No such file or directory"
    )
    assert "libcudart.so.99" in found["libcudart.so.99"]["problem"]
    assert {each["path"] for each in found.values()} == {""}


def test_what_the_systems_loader_finds_is_shown_where_it_was(
    python: Python, library: Compile, gpu_wheel: Path, tmp_path: Path
) -> None:
    path = library(tmp_path / "system/libcudart.so.99")
    provider = gpu_wheel / "onnxruntime/capi/libonnxruntime_providers_cuda.so"
    found = loaded(python, provider, LD_LIBRARY_PATH=path.parent)
    assert found["libcudart.so.99"]["path"] == str(path)


def test_a_provider_says_which_cuda_it_is_for(
    library: Compile, gpu_wheel: Path, tmp_path: Path
) -> None:
    assert cuda.major(gpu_wheel / "onnxruntime/capi/libonnxruntime_providers_cuda.so") == 99
    twelve = library(tmp_path / "elsewhere/libcudart.so.12")
    assert cuda.major(library(tmp_path / "twelve.so", twelve)) == 12
    assert cuda.major(library(tmp_path / "none.so")) == 0
