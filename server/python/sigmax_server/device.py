"""Chooses the devices that models run on: from --device, the GPUs that work, and configurations."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sigmax_server._native import NativeError, try_device
from sigmax_server.model_spec import Placement
from sigmax_server.runtime import mend
from sigmax_server.setting import named_devices

if TYPE_CHECKING:
    from sigmax_server.cuda import Driver, Gpu, Library


class DeviceError(Exception):
    """An error for a device that was asked for and does not work; the message has the remedy."""


@dataclass(frozen=True)
class Problem:
    """A reason why no GPU can be used.

    Attributes:
        text: description of what is missing.
        mend: description of the remedy.
    """

    text: str
    mend: str

    def __str__(self) -> str:
        return f"{self.text}; {self.mend}"


@dataclass(frozen=True)
class Choice:
    """The devices that a model may run on.

    Attributes:
        placements: alternative sets of engines, as in `ModelSpec.placements`.
        reason: reason for these, for people.
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
        kind: kind of the group: KIND_AUTO, KIND_CPU or KIND_GPU.
        count: number of engines on each device; 0: the configuration does not say.
        gpus: numbers of the GPUs; empty: the configuration does not say.
    """

    kind: str
    count: int = 0
    gpus: tuple[int, ...] = ()


class Cuda:
    """CUDA, as one ONNX Runtime can use it.

    Each part is examined once, when it is first needed. A GPU that did not work is tried again
    whenever it is asked for. The module `cuda` is imported late, too: a server without a GPU needs
    no ctypes.
    """

    def __init__(self, runtime: Path, trial: Callable[[str], None] = try_device) -> None:
        """Keep the arguments; nothing is examined yet.

        Args:
            runtime: path of ONNX Runtime's library.
            trial: function that runs a small network on a device, and raises NativeError where
                that fails.
        """
        self.provider = runtime.parent / "libonnxruntime_providers_cuda.so"
        self._trial = trial
        self._working: set[str] = set()

    @cached_property
    def driver(self) -> "Driver":
        """NVIDIA's driver, with the GPUs."""
        from sigmax_server import cuda

        return cuda.driver()

    @cached_property
    def major(self) -> int:
        """Major version of CUDA that the provider is made for; 0 where there is no provider."""
        from sigmax_server import cuda

        return cuda.major(self.provider) if self.provider.is_file() else 0

    @cached_property
    def folders(self) -> list[Path]:
        """Folders that are searched for the provider's libraries before the system's loader is."""
        from sigmax_server import cuda

        return cuda.folders()

    @cached_property
    def libraries(self) -> "list[Library]":
        """Libraries that the provider needs, loaded where they were found."""
        from sigmax_server import cuda

        return cuda.load(self.provider, self.folders) if self.provider.is_file() else []

    def problems(self) -> Iterator[Problem]:
        """Yield the reasons why no GPU can be used; none where nothing is missing.

        The reasons that are cheapest to find come first.
        """
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
        """Yield the GPUs that work."""
        return (gpu for gpu in self.driver.gpus if not self.problem(gpu.device))

    def problem(self, device: str) -> str:
        """Return why a GPU such as `cuda:0` cannot be used, with the remedy; empty where it can."""
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
    """Chooses the devices that models run on."""

    def __init__(self, asked: str, cuda: Cuda) -> None:
        """Keep the arguments; nothing is chosen yet.

        Args:
            asked: value of `--device`.
            cuda: CUDA, which is examined only where a GPU may be used.
        """
        self._asked = asked
        self._cuda = cuda

    @cached_property
    def choice(self) -> Choice:
        """The devices for models without instance groups.

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
        """Return what of CUDA does not work, for users who installed its provider.

        `choice` must not raise.
        """
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
        """Choose the devices for a model with these instance groups; empty where it has none.

        Raises:
            DeviceError: a group names a GPU that does not work, or asks for any GPU and none works.
        """
        if not groups:
            return self.choice
        # All groups that leave their device open get the same choice.
        choices = self.choice.placements if any(map(_is_open, groups)) else ((),)
        placements = tuple(
            tuple(chain(*(self._engines(group, choice) for group in groups))) for choice in choices
        )
        kinds = ", ".join(group.kind for group in groups)
        return Choice(placements, f"instance_group: {kinds}")

    def _engines(self, group: Group, choice: Sequence[Placement]) -> tuple[Placement, ...]:
        """Return the engines of a group; `choice` is for a group that leaves its device open."""
        if _is_open(group):
            return tuple(replace(one, count=group.count or one.count) for one in choice)
        if group.kind == "KIND_CPU":
            return (Placement("cpu", group.count),)
        return _once(self._gpus(group), group.count or 1)

    def _gpus(self, group: Group) -> Sequence[str]:
        """Return the GPUs of a group: its own, else those of `--device`, else all that work."""
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
    """Return whether a group leaves its device open."""
    return group.kind == "KIND_AUTO"


def _once(devices: Sequence[str], count: int = 1) -> tuple[Placement, ...]:
    return tuple(Placement(device, count) for device in devices)
