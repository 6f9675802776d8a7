"""Examines CUDA: the driver with its GPUs, and the libraries of ONNX Runtime's provider.

The driver is called by ctypes, and the libraries' needs are read from their files. Packages with
a CUDA of their own are not imported.
"""

import ctypes
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sigmax_server import elf

# The oldest NVIDIA driver for each major version of CUDA (CUDA's compatibility guide).
OLDEST_DRIVERS = {12: "525", 13: "580"}
_DRIVER = "libcuda.so.1"
# Names of the libraries that come with CUDA, among all that the provider needs; not libcuda, which
# comes with the driver.
_OF_CUDA = re.compile(r"lib(cu(?!da\.)|nv)\w+\.so\.\d+")


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        number: number as in `cuda:0`, among the GPUs that CUDA_VISIBLE_DEVICES leaves.
        name: name of the model, such as "NVIDIA H100 80GB HBM3".
        memory: total memory in bytes.
        capability: compute capability, such as "9.0".
    """

    number: int
    name: str
    memory: int
    capability: str

    @property
    def device(self) -> str:
        """Name of the GPU as `--device` takes it, such as `cuda:0`."""
        return f"cuda:{self.number}"


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        version: version of the kernel module, such as "580.65.06"; empty where there is none.
        cuda: newest version of CUDA that the driver runs, as (major, minor); (0, 0) where the
            driver cannot be asked.
        gpus: GPUs that programs may use.
        problem: reason why there are no GPUs; empty where there are some.
    """

    version: str = ""
    cuda: tuple[int, int] = (0, 0)
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Library:
    """A library of CUDA.

    Attributes:
        name: name for the loader, such as "libcublas.so.13".
        use: operations that need it, such as "Fourier transforms"; empty: every model needs it.
        path: path of the loaded file; empty where it was not loaded.
        problem: "not found", or the loader's error; empty where it was loaded.
    """

    name: str
    use: str
    path: str
    problem: str


def driver(root: Path = Path("/")) -> Driver:
    """Return the driver, as its library describes it, which the system's loader finds.

    Args:
        root: folder that holds the `proc` file system.
    """
    version = _module_version(root)
    try:
        library = ctypes.CDLL(_DRIVER)
    except OSError as error:
        return Driver(version, problem=str(error))
    number = ctypes.c_int()
    try:
        _ask(library, "cuInit", 0)
        _ask(library, "cuDriverGetVersion", ctypes.byref(number))
        cuda = (number.value // 1000, number.value % 1000 // 10)
        _ask(library, "cuDeviceGetCount", ctypes.byref(number))
        gpus = tuple(_gpu(library, each) for each in range(number.value))
    except OSError as error:
        return Driver(version, problem=str(error))
    return Driver(version, cuda, gpus, "" if gpus else "it has no GPU")


def _module_version(root: Path) -> str:
    try:
        text = (root / "proc/driver/nvidia/version").read_text()
    except OSError:
        return ""
    found = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", text)
    return found[1] if found else ""


def _ask(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    """Call a function of the driver; raise OSError with the driver's own words where it fails."""
    try:
        call = getattr(library, function)
    except AttributeError as error:
        raise OSError(str(error)) from None
    if code := call(*arguments):
        text = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(text))
        words = (
            text.value.decode(errors="replace") if text.value else "an error it has no words for"
        )
        raise OSError(f"{function}: {words} ({code})")


_CAPABILITY = (75, 76)  # numbers of CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


def _gpu(library: ctypes.CDLL, number: int) -> Gpu:
    handle, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    _ask(library, "cuDeviceGet", ctypes.byref(handle), number)
    _ask(library, "cuDeviceGetName", name, len(name), handle)
    _ask(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    capability = []
    for attribute in _CAPABILITY:
        value = ctypes.c_int()
        _ask(library, "cuDeviceGetAttribute", ctypes.byref(value), attribute, handle)
        capability.append(str(value.value))
    name_text = name.value.decode(errors="replace")
    return Gpu(number, name_text, memory.value, ".".join(capability))


def major(provider: Path) -> int:
    """Return the major version of CUDA that a provider is made for; 0 where it names none."""
    found = (re.fullmatch(r"libcudart\.so\.(\d+)", name) for name in elf.needed(provider))
    return next((int(each[1]) for each in found if each), 0)


def folders(
    environment: dict[str, str] | None = None, path: Sequence[str] | None = None
) -> list[Path]:
    """List the folders that may hold CUDA's libraries, in the order of the search.

    The order is: the wheels of this Python environment, which were installed with ONNX Runtime's;
    the toolkits that CUDA_HOME and CUDA_PATH name; the toolkits in /usr/local, where NVIDIA's
    installer puts them, those with the highest names first.

    Args:
        environment: environment variables; None for this process's.
        path: folders that Python imports from; None for this process's.
    """
    environment = dict(os.environ) if environment is None else environment
    toolkits = [
        *(Path(home) for name in ("CUDA_HOME", "CUDA_PATH") if (home := environment.get(name))),
        *sorted(Path("/usr/local").glob("cuda*"), reverse=True),
    ]
    return [
        *(
            folder
            for each in (sys.path if path is None else path)
            for folder in sorted(Path(each).glob("nvidia/*/lib"))
        ),
        *(
            folder
            for toolkit in toolkits
            for inside in ("lib64", "lib")
            if os.path.isdir(folder := toolkit / inside)  # noqa: PTH112 - it may be unreadable
        ),
    ]


def load(provider: Path, places: Sequence[Path]) -> list[Library]:
    """Load the libraries that ONNX Runtime's provider needs, so that it finds them loaded.

    The loader knows a loaded library by its name, wherever its file is, so that no LD_LIBRARY_PATH
    is needed. Libraries that are in none of the folders are left to the loader, which searches
    folders of its own.

    Args:
        provider: path of the provider's library.
        places: folders to search, in this order.

    Returns:
        The libraries: first those that every model needs, then those that some models need.
    """
    uses = dict.fromkeys(filter(_OF_CUDA.fullmatch, elf.needed(provider)), "")
    uses |= {name: use for name, use in _opened_later(major(provider)).items() if name not in uses}
    files = {name: _file(name, places) for name in uses}
    problems: dict[str, str] = {}
    for name in uses:
        _load(name, places, problems)
    return [
        Library(
            name, use, "" if problems[name] else str(files[name] or _mapped(name)), problems[name]
        )
        for name, use in uses.items()
    ]


def _opened_later(version: int) -> dict[str, str]:
    """Return the libraries that a provider for this version of CUDA opens late, and their use."""
    return {
        "libcudnn.so.9": "convolutions and pooling",
        f"libcufft.so.{version - 1}": "Fourier transforms",
        f"libnvrtc.so.{version}": "kernels compiled at run time",
    }


def _file(name: str, places: Sequence[Path]) -> Path | None:
    files = (place / name for place in places)
    return next((file for file in files if os.path.isfile(file)), None)  # noqa: PTH113 - as above


def _load(name: str, places: Sequence[Path], problems: dict[str, str]) -> None:
    """Load a library after those that it needs, where the folders have them; note its problem."""
    if name in problems:
        return
    problems[name] = ""
    file = _file(name, places)
    try:
        for other in elf.needed(file) if file else ():
            if _file(other, places):
                _load(other, places, problems)
        ctypes.CDLL(str(file or name))
    except (OSError, ValueError) as error:
        nowhere = f"{name}: cannot open shared object file: No such file"
        problems[name] = "not found" if str(error).startswith(nowhere) else str(error)


def _mapped(name: str) -> str:
    """Return the path of a library that this process has loaded by its name."""
    maps = Path("/proc/self/maps").read_text()
    found = re.search(rf"^.* (/.*/{re.escape(name)}\S*)$", maps, re.MULTILINE)
    return found[1] if found else name
