"""What there is of CUDA: the driver with its GPUs, and the libraries of ONNX Runtime's provider.

It is asked by ctypes and read from files; nothing is imported that would bring a CUDA of its own.
"""

import ctypes
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sigmax_server import elf

# The oldest NVIDIA driver, by CUDA's major version (CUDA's compatibility guide).
OLDEST_DRIVERS = {12: "525", 13: "580"}
_DRIVER = "libcuda.so.1"
# Of what the provider needs, that which comes with CUDA and not with the system.
_OF_CUDA = re.compile(r"lib(cu(?!da\.)|nv)\w+\.so\.\d+")


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        number: as in `cuda:0`; CUDA_VISIBLE_DEVICES is counted in already.
        name: such as "NVIDIA H100 80GB HBM3".
        memory: all of it, in bytes.
        capability: its compute capability, such as "9.0".
    """

    number: int
    name: str
    memory: int
    capability: str

    @property
    def device(self) -> str:
        """What `--device` calls it."""
        return f"cuda:{self.number}"


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        version: of its kernel module, such as "580.65.06"; empty where there is none.
        cuda: the newest CUDA that it runs, as (major, minor); (0, 0) where it cannot be asked.
        gpus: those that programs may use.
        problem: why there are none; empty where there are.
    """

    version: str = ""
    cuda: tuple[int, int] = (0, 0)
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Library:
    """A library of CUDA's.

    Attributes:
        name: what the loader knows it by, such as "libcublas.so.13".
        use: what cannot be run without it; empty: nothing can.
        path: where it was loaded from; empty where it was not.
        problem: "not found", or why it was not loaded, in the loader's words; empty where it was.
    """

    name: str
    use: str
    path: str
    problem: str


def driver(root: Path = Path("/")) -> Driver:
    """Ask the driver's library, where the system's loader finds it.

    Args:
        root: where the `proc` file system is found.
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
    """Call a function of the driver; OSError with the driver's own words where it fails."""
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


_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


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
    """List the folders that may hold CUDA's libraries, in the order in which they are looked at.

    First the wheels of this Python environment, which came with ONNX Runtime's, then the toolkits
    that CUDA_HOME and CUDA_PATH name, then those that lie where NVIDIA's installer puts them.

    Args:
        environment: the environment's variables; by default this process's.
        path: the folders that Python imports from; by default this process's.
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

    The loader knows a loaded library by its name, wherever its file lies, so no LD_LIBRARY_PATH is
    needed. What is in none of the folders is left to the loader, which has folders of its own.

    Args:
        provider: the provider's library.
        places: the folders, in the order in which they are looked at.

    Returns:
        First those that nothing runs without, then those that some networks need.
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
    """What a provider for this version of CUDA opens when it is used, and for what."""
    return {
        "libcudnn.so.9": "convolutions and pooling",
        f"libcufft.so.{version - 1}": "Fourier transforms",
        f"libnvrtc.so.{version}": "kernels compiled at run time",
    }


def _file(name: str, places: Sequence[Path]) -> Path | None:
    files = (place / name for place in places)
    return next((file for file in files if os.path.isfile(file)), None)  # noqa: PTH113 - as above


def _load(name: str, places: Sequence[Path], problems: dict[str, str]) -> None:
    """Load a library after those that it needs, as far as the folders have them."""
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
    """Where the loader has found a library that this process has loaded by its name."""
    maps = Path("/proc/self/maps").read_text()
    found = re.search(rf"^.* (/.*/{re.escape(name)}\S*)$", maps, re.MULTILINE)
    return found[1] if found else name
