"""GPUs to test on: the machine's own, or one that is simulated in the host's memory.

The simulated GPU runs the real `onnxruntime-gpu` and its CUDA provider on libraries that replace
NVIDIA's (`simulated_gpu/`). They have the kernels of linear layers, and no convolutions.
"""

import os
import re
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from support.uv import find_uv

SOURCES = Path(__file__).with_name("simulated_gpu")
# The libraries that a provider for CUDA 13 needs, and the source files of each.
LIBRARIES = {
    "libcudart.so.13": ("state", "memory", "stream", "launch", "kernels"),
    "libcublasLt.so.13": ("blas",),
    "libcublas.so.13": ("blas",),
    "libcurand.so.10": (),
}


@dataclass(frozen=True)
class Counts:
    """The counters of a simulated GPU.

    Attributes:
        used: Bytes of each GPU's memory that are allocated.
        allocations: Number of allocations of GPU memory and of pinned memory.
        kernels: Number of kernels that were launched or captured.
        captures: Number of graphs captured.
        broken_captures: Number of captures during which a forbidden function was called.
        replays: Number of graphs replayed.
    """

    used: tuple[int, int]
    allocations: int
    kernels: int
    captures: int
    broken_captures: int
    replays: int


@dataclass(frozen=True)
class Gpu:
    """The environment that a server needs to use a GPU.

    Attributes:
        python: Path of the environment's Python.
        environment: Additional environment variables.
        slack: Bytes by which the driver's own bookkeeping may change the memory in use.
    """

    python: Path = Path(sys.executable)
    environment: dict[str, str] = field(default_factory=dict)
    slack: int = 64 << 20

    def memory_used(self) -> int:
        """Return the bytes that all programs have allocated on the first GPU."""
        query = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        done = subprocess.run(query, check=True, capture_output=True, text=True)
        return int(done.stdout) * 2**20


@dataclass(frozen=True)
class SimulatedGpu(Gpu):
    """A simulated GPU. Its counters are those of the last server that was started."""

    @property
    def libraries(self) -> Path:
        """Folder of the libraries that replace CUDA's."""
        return Path(self.environment["CUDA_HOME"]) / "lib64"

    def memory_used(self) -> int:
        return self.counts().used[0]

    def counts(self) -> Counts:
        """Return the counters of the last server so far."""
        content = Path(self.environment["SIMULATED_GPU_COUNTS"]).read_bytes()
        first, second, *others = struct.unpack("7q", content)
        return Counts((first, second), *others)

    def fail(self, code: int) -> None:
        """Let the next launch, or what it launches, end with this error code of CUDA."""
        path = Path(self.environment["SIMULATED_GPU_FAULT"])
        path.with_suffix(".new").write_text(str(code))
        path.with_suffix(".new").rename(path)


def simulated(folder: Path) -> SimulatedGpu:
    """Make an environment whose ONNX Runtime has a simulated GPU.

    Args:
        folder: Folder for the environment, the libraries and the counters.
    """
    python = _environment(folder / "environment")
    libraries, driver = folder / "cuda/lib64", folder / "driver"
    [provider] = python.parents[1].glob("lib/python*/site-packages/onnxruntime/capi/*_cuda.so")
    needed = _needed(provider)
    for name, sources in LIBRARIES.items():
        # Libraries that need libcudart come after it in LIBRARIES.
        others = (libraries / "libcudart.so.13",) if "blas" in sources else ()
        _compile(libraries / name, sources, others, needed.get(name, []))
    _compile(driver / "libcuda.so.1", ("driver",), (), needed.get("", []))
    variables = {
        # The libraries are found as those of an installed toolkit.
        "CUDA_HOME": str(folder / "cuda"),
        # The driver is found as that of NVIDIA's container toolkit.
        "LD_LIBRARY_PATH": str(driver),
        "SIMULATED_GPU_COUNTS": str(folder / "counts"),
        "SIMULATED_GPU_FAULT": str(folder / "fault"),
    }
    return SimulatedGpu(python, variables, slack=0)


def _environment(folder: Path) -> Path:
    """Make an environment like a user's, but without NVIDIA's libraries; return its Python."""
    uv = find_uv()
    packages = ["--locked", "--quiet", "--package=sigmax-server", "--extra=gpu", "--no-dev"]
    listed = subprocess.run(
        [uv, "export", *packages, "--no-hashes"], check=True, stdout=subprocess.PIPE, text=True
    )
    nvidias = re.findall(r"^(nvidia-[\w-]+)==", listed.stdout, re.MULTILINE)
    without = [f"--no-install-package={name}" for name in nvidias]
    # An editable build would write its native module over that of servers which run meanwhile.
    ours = ["--no-editable", "--reinstall-package=sigmax-server", "--reinstall-package=sigmax"]
    subprocess.run(
        [uv, "sync", *packages, "--package=sigmax", *ours, "--python", sys.executable, *without],
        env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder)},
        check=True,
        timeout=500,
    )
    return folder / "bin/python"


def _needed(provider: Path) -> dict[str, list[str]]:
    """Return the functions that a provider needs, by their library; "" where none is named."""
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", provider], check=True, capture_output=True, text=True
    )
    functions: dict[str, list[str]] = {}
    for name, library in re.findall(r" U (_*cu\w+)(?:@(\S+))?$", listed.stdout, re.MULTILINE):
        functions.setdefault(library, []).append(name)
    return functions


def _compile(
    library: Path, sources: tuple[str, ...], others: tuple[Path, ...], functions: list[str]
) -> None:
    """Compile a library; needed functions that the sources lack report that when called."""
    library.parent.mkdir(parents=True, exist_ok=True)
    files = [SOURCES / f"{name}.c" for name in sources]
    written = "".join(file.read_text() for file in files)
    missing = [name for name in functions if not re.search(rf"\b{name}\(", written)]
    rest = library.with_suffix(".c")
    rest.write_text("".join(_missing(name) for name in missing))
    versions = library.with_suffix(".map")
    versions.write_text(f"{library.name} {{ global: *; }};\n")
    command = ["cc", "-shared", "-fPIC", "-O3", "-std=gnu11", "-ffp-contract=off", "-pthread"]
    linked = [f"-Wl,-soname,{library.name}", f"-Wl,--version-script={versions}", "-lm"]
    subprocess.run([*command, "-o", library, *files, rest, *others, *linked], check=True)


def _missing(function: str) -> str:
    words = f"simulated GPU: no function {function}"
    not_supported = 801
    return (
        "extern int dprintf(int, const char *, ...);\n"
        f'int {function}(void) {{ dprintf(2, "{words}\\n"); return {not_supported}; }}\n'
    )
