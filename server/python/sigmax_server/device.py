"""What models run on: what was asked for, what really works, and what a model says itself."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sigmax_server._native import NativeError, try_device
from sigmax_server.config import Placement, named_devices
from sigmax_server.runtime import mend

if TYPE_CHECKING:
    from sigmax_server.cuda import Driver, Gpu, Library


class DeviceError(Exception):
    """A device that was asked for does not work; the message says why, and what mends it."""


@dataclass(frozen=True)
class Problem:
    """Why no GPU can be used.

    Attributes:
        text: what is missing.
        mend: how to get it.
    """

    text: str
    mend: str

    def __str__(self) -> str:
        return f"{self.text}; {self.mend}"


@dataclass(frozen=True)
class Choice:
    """What a model runs on.

    Attributes:
        placements: the alternatives, as `ModelSpec.placements` has them.
        reason: why these, for people.
    """

    placements: tuple[tuple[Placement, ...], ...]
    reason: str

    def __str__(self) -> str:
        each = (" and ".join(one.device for one in placements) for placements in self.placements)
        return f"{' or '.join(each)} ({self.reason})"


@dataclass(frozen=True)
class Group:
    """An instance group of a model's configuration.

    Attributes:
        kind: KIND_AUTO, KIND_CPU or KIND_GPU.
        count: engines on each device; 0: not said.
        gpus: the numbers of its GPUs; empty: not said.
    """

    kind: str
    count: int = 0
    gpus: tuple[int, ...] = ()


class Cuda:
    """CUDA, for one ONNX Runtime. Each part is looked at when it is first asked for, and once.

    A GPU that did not work is tried again whenever it is asked for.
    The module that looks is imported then as well: a server without a GPU needs no ctypes.
    """

    def __init__(self, runtime: Path, trial: Callable[[str], None] = try_device) -> None:
        """Look at nothing yet.

        Args:
            runtime: the path of ONNX Runtime's library.
            trial: runs a small network on a device; NativeError where that fails.
        """
        self.provider = runtime.parent / "libonnxruntime_providers_cuda.so"
        self._trial = trial
        self._working: set[str] = set()

    @cached_property
    def driver(self) -> "Driver":
        """NVIDIA's driver."""
        from sigmax_server import cuda

        return cuda.driver()

    @cached_property
    def major(self) -> int:
        """The major version that the provider is made for; 0 where there is no provider."""
        from sigmax_server import cuda

        return cuda.major(self.provider) if self.provider.is_file() else 0

    @cached_property
    def folders(self) -> list[Path]:
        """Where the provider's libraries are looked for, before the system's loader is asked."""
        from sigmax_server import cuda

        return cuda.folders()

    @cached_property
    def libraries(self) -> "list[Library]":
        """The libraries that the provider needs, loaded as far as they are there."""
        from sigmax_server import cuda

        return cuda.load(self.provider, self.folders) if self.provider.is_file() else []

    def problems(self) -> Iterator[Problem]:
        """Say why no GPU can be used, the cheapest to find out first; nothing where some may."""
        if not self.provider.is_file():
            yield Problem(
                "the installed ONNX Runtime has no CUDA provider", f"mend it with {mend('gpu')}"
            )
        yield from self._problems_of_driver()
        missing = [library for library in self.libraries if library.problem and not library.use]
        if missing:
            words = ", ".join(f"{library.name} {library.problem}" for library in missing)
            places = ", ".join([*map(str, self.folders), "the folders of the system's loader"])
            yield Problem(
                f"CUDA's libraries cannot be loaded ({words}); looked for in {places}",
                'install them with pip install "sigmax-server[gpu]", or set CUDA_HOME to a toolkit '
                f"of CUDA {self.major}",
            )

    def _problems_of_driver(self) -> Iterator[Problem]:
        from sigmax_server.cuda import OLDEST_DRIVERS

        oldest = OLDEST_DRIVERS.get(self.major)
        which = f"version {oldest} or newer, for CUDA {self.major}" if oldest else "it"
        install = f"install {which}; a container needs NVIDIA's container toolkit and --gpus all"
        driver = self.driver
        called = f"NVIDIA's driver {driver.version}".strip()
        if driver.problem:
            yield Problem(f"{called} cannot be used: {driver.problem}", install)
        elif driver.cuda < (self.major, 0):
            newest = ".".join(map(str, driver.cuda))
            yield Problem(
                f"{called} runs CUDA up to {newest}, and the installed ONNX Runtime needs CUDA "
                f"{self.major}",
                install,
            )

    def usable(self) -> "Iterator[Gpu]":
        """Those GPUs that work."""
        return (gpu for gpu in self.driver.gpus if not self.problem(gpu.device))

    def problem(self, device: str) -> str:
        """Say why a GPU such as `cuda:0` cannot be used, and what mends it; empty where it can."""
        problem = "" if device in self._working else self._try(device)
        if not problem:
            self._working.add(device)
        return problem

    def _try(self, device: str) -> str:
        if problems := list(self.problems()):
            return "; ".join(map(str, problems))
        there = [gpu.device for gpu in self.driver.gpus]
        if device not in there:
            return f"there is no such GPU; NVIDIA's driver has {', '.join(there)}"
        try:
            self._trial(device)
        except NativeError as error:
            return f"a trial run failed: {' '.join(str(error).split())}"
        return ""


class Devices:
    """Decides what models run on."""

    def __init__(self, asked: str, cuda: Cuda) -> None:
        """Decide nothing yet.

        Args:
            asked: the value of `--device`.
            cuda: is looked at only where a GPU may be used.
        """
        self._asked = asked
        self._cuda = cuda

    @cached_property
    def choice(self) -> Choice:
        """What a model runs on that says nothing itself.

        Raises:
            DeviceError: a device that `--device` names does not work.
        """
        named = named_devices(self._asked)
        self._require(named)
        if named == ("cpu",):
            return Choice((_CPU,), "--device cpu")
        if named:
            return Choice((_once(named),), f"--device {self._asked}")
        problem = next(self._cuda.problems(), None)
        gpu = None if problem else next(self._cuda.usable(), None)
        if gpu:
            reason = f"auto: for each model that which takes more rows a second; {gpu.name}"
            return Choice((_once([gpu.device]), _CPU), reason)
        why = problem.text if problem else self._cuda.problem("cuda:0")
        return Choice((_CPU,), f"auto: {why}")

    def warnings(self) -> list[str]:
        """Say what somebody who installed CUDA's provider does not get, after `choice`."""
        if not self._cuda.provider.is_file() or self._asked == "cpu":
            return []
        if self.choice.placements == (_CPU,):
            return [f"models run on the CPU ({self.choice.reason})"]
        return [
            f"{library.name} {library.problem}; some networks need it, for {library.use}"
            for library in self._cuda.libraries
            if library.problem
        ]

    def place(self, groups: Sequence[Group]) -> Choice:
        """Decide what a model with these instance groups runs on.

        Raises:
            DeviceError: a group names a GPU that does not work, or asks for any and none does.
        """
        if not groups:
            return self.choice
        # Groups that do not say where they run all run at the same place.
        choices = self.choice.placements if any(map(_is_open, groups)) else ((),)
        placements = tuple(
            tuple(chain(*(self._engines(group, choice) for group in groups))) for choice in choices
        )
        kinds = ", ".join(group.kind for group in groups)
        return Choice(placements, f"instance_group: {kinds}")

    def _engines(self, group: Group, choice: Sequence[Placement]) -> tuple[Placement, ...]:
        """The engines of a group; this choice is for one that leaves it open."""
        if _is_open(group):
            return tuple(replace(one, count=group.count or one.count) for one in choice)
        if group.kind == "KIND_CPU":
            return (Placement("cpu", group.count),)
        return _once(self._gpus(group), group.count or 1)

    def _gpus(self, group: Group) -> Sequence[str]:
        """The GPUs of a group: its own, else those of `--device`, else all that work."""
        flag = tuple(name for name in named_devices(self._asked) if name != "cpu")
        named = tuple(f"cuda:{number}" for number in group.gpus) or flag
        self._require(named)
        usable = named or [gpu.device for gpu in self._cuda.usable()]
        if not usable:
            raise DeviceError(f"no GPU can be used: {self._cuda.problem('cuda:0')}")
        return usable

    def _require(self, devices: Sequence[str]) -> None:
        for device in devices:
            if device != "cpu" and (problem := self._cuda.problem(device)):
                raise DeviceError(f"{device} cannot be used: {problem}")


_CPU = (Placement("cpu", 0),)


def _is_open(group: Group) -> bool:
    """Whether a group leaves open what it runs on."""
    return group.kind == "KIND_AUTO"


def _once(devices: Sequence[str], count: int = 1) -> tuple[Placement, ...]:
    return tuple(Placement(device, count) for device in devices)
