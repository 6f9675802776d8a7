"""What one run says, and the contenders of a regime measured in turn."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.servers import ROOT, pinned

FOR_EVER = 1e9  # seconds


@dataclass(frozen=True)
class Settings:
    """How long and where everything is measured.

    Attributes:
        server: The cores that servers are kept on.
        load: The core that load comes from.
        seconds: Of one repeat.
        repeats: Of every contender; their median is told.
        busy_poll_microseconds: The cap of the contender that polls before it sleeps.
    """

    server: set[int]
    load: set[int]
    seconds: float
    repeats: int
    busy_poll_microseconds: int


@dataclass(frozen=True)
class Run:
    """What one server did with one kind of request.

    Attributes:
        per_second: Requests answered a second.
        mean_us: Mean time of a request, in microseconds.
        p50_us: Half of the requests took no longer; none where only the mean is known.
        p99_us: 99 of 100 took no longer.
        cpu_us: CPU time of the server a request, in microseconds; none where there is no server.
    """

    per_second: float
    mean_us: float
    p50_us: float | None = None
    p99_us: float | None = None
    cpu_us: float | None = None


@dataclass(frozen=True)
class Measured:
    """The median of a contender's repeats, each figure by itself, and how far they went apart.

    Attributes:
        median: Of the repeats.
        least: Requests a second of the slowest repeat.
        most: Of the fastest.
    """

    median: Run
    least: float
    most: float


@dataclass(frozen=True)
class Contender:
    """Something that can be measured for so many seconds."""

    name: str
    run: Callable[[float], Run]


def in_turn(contenders: Sequence[Contender], settings: Settings) -> list[Measured]:
    """Measure all once a repeat, so that they share the machine's moods, after a warm-up."""
    for contender in contenders:
        contender.run(1)
    repeats = [
        [contender.run(settings.seconds) for contender in contenders]
        for _ in range(settings.repeats)
    ]
    return [_together(runs) for runs in zip(*repeats, strict=True)]


def _together(runs: Sequence[Run]) -> Measured:
    def median(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    rates = [run.per_second for run in runs]
    middle = Run(
        per_second=statistics.median(rates),
        mean_us=statistics.median(run.mean_us for run in runs),
        p50_us=median([run.p50_us for run in runs]),
        p99_us=median([run.p99_us for run in runs]),
        cpu_us=median([run.cpu_us for run in runs]),
    )
    return Measured(middle, min(rates), max(rates))


def in_process(file: Path, rows: int, settings: Settings) -> Contender:
    """ONNX Runtime alone on the server's core, run after run: what no server there can exceed."""

    def run(seconds: float) -> Run:
        command = _in_process(file, rows, settings, seconds)
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        per_second = float(printed.splitlines()[-1])
        return Run(per_second, 1e6 / per_second)

    return Contender("ONNX Runtime in process", run)


@contextmanager
def running_in_process(file: Path, rows: int, settings: Settings) -> Iterator[None]:
    """ONNX Runtime alone on the server's core, run after run, while the context lasts."""
    command = _in_process(file, rows, settings, FOR_EVER)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.terminate()


def _in_process(file: Path, rows: int, settings: Settings, seconds: float) -> list[str]:
    peer = [sys.executable, str(ROOT / "bench/peers/in_process.py")]
    return pinned(settings.server, [*peer, str(file), str(rows), str(seconds)])
