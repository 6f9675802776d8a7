"""Measures the contenders of a regime in turn."""

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.servers import ROOT, pinned

FOR_EVER = 1e9  # seconds, longer than any measurement


@dataclass(frozen=True)
class Settings:
    """The duration and the cores of the measurements.

    Attributes:
        server: Cores of the servers.
        load: Cores of the load driver.
        seconds: Duration of one repeat in seconds.
        repeats: Number of repeats of each contender, whose median is reported.
        busy_poll_microseconds: Most microseconds that the polling contender polls before it sleeps.
    """

    server: set[int]
    load: set[int]
    seconds: float
    repeats: int
    busy_poll_microseconds: int


@dataclass(frozen=True)
class Run:
    """The figures of a contender for one kind of request.

    Attributes:
        per_second: Requests answered per second.
        mean_us: Mean time of a request, in microseconds.
        p50_us: Median time of a request, in microseconds; None where only the mean is known.
        p99_us: 99th percentile of the times, in microseconds; None where only the mean is known.
        cpu_us: CPU microseconds of the server for each request, or of the client where a regime
            measures clients; None where there is no server, or other loads used it, too.
    """

    per_second: float
    mean_us: float
    p50_us: float | None = None
    p99_us: float | None = None
    cpu_us: float | None = None


@dataclass(frozen=True)
class Measured:
    """The figures of all repeats of a contender.

    Attributes:
        median: Median of each figure by itself.
        least: Requests per second of the slowest repeat.
        most: Requests per second of the fastest repeat.
    """

    median: Run
    least: float
    most: float


@dataclass(frozen=True)
class Contender:
    """A named function that measures something for a number of seconds."""

    name: str
    run: Callable[[float], Run]


def in_turn(contenders: Sequence[Contender], settings: Settings) -> list[Measured]:
    """Measure all contenders in turn in each repeat, after a warm-up of one second each.

    In turn, they all share the states that the machine goes through.
    """
    for contender in contenders:
        contender.run(1)
    repeats = [
        [contender.run(settings.seconds) for contender in contenders]
        for _ in range(settings.repeats)
    ]
    return [together(runs) for runs in zip(*repeats, strict=True)]


def together(runs: Sequence[Run]) -> Measured:
    """Return the figures of all repeats of a contender."""

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
    """Make a contender of ONNX Runtime alone on the server's core, which no server can exceed."""

    def run(seconds: float) -> Run:
        command = _in_process(file, rows, settings, seconds)
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        per_second = float(printed.splitlines()[-1])
        return Run(per_second, 1e6 / per_second)

    return Contender("ONNX Runtime in process", run)


@contextmanager
def running_in_process(file: Path, rows: int, settings: Settings) -> Iterator[None]:
    """Run ONNX Runtime alone on the server's core, without a pause, until the context ends."""
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
