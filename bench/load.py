"""Load from h2load, and what it measured."""

import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.questions import Question
from bench.servers import BUILD, Server

# h2load prints at most three of a number's digits after the point, in the unit that suits.
MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True)
class Flight:
    """How many requests are under way: `connections` times `streams`."""

    connections: int
    streams: int

    @property
    def requests(self) -> int:
        """How many that is."""
        return self.connections * self.streams


@dataclass(frozen=True)
class Measured:
    """What one server did with one kind of request.

    Attributes:
        per_second: Requests answered a second; the median of the repeats.
        mean_us: Mean time of a request, in microseconds; the median of the repeats.
        p50_us: Half of the requests took no longer, in microseconds.
        p99_us: 99 of 100 took no longer.
        cpu_us: CPU time of the server a request, in microseconds; the median of the repeats.
        repeats: Requests a second of each repeat.
    """

    per_second: float
    mean_us: float
    p50_us: float
    p99_us: float
    cpu_us: float
    repeats: list[float]


@dataclass(frozen=True)
class _Run:
    requests: int
    per_second: float
    mean_us: float
    cpu_us: float


def available() -> bool:
    """Whether h2load is installed."""
    return shutil.which("h2load") is not None


def warm_up(server: Server, question: Question, flight: Flight, core: int) -> None:
    """Ask for a second, and look at nothing but that it works."""
    _ask(server, question, flight, core, seconds=1)


def repeat(server: Server, question: Question, flight: Flight, core: int, seconds: int) -> _Run:
    """Ask for so many seconds from one core."""
    return _ask(server, question, flight, core, seconds)


def percentiles(
    server: Server, question: Question, flight: Flight, core: int, seconds: int
) -> tuple[float, float]:
    """The median and the 99th percentile of a request's time, in microseconds.

    From a run of its own: h2load writes a line for every request, which costs it a little.
    """
    log = BUILD / "requests.tsv"
    log.unlink(missing_ok=True)
    _ask(server, question, flight, core, seconds, f"--log-file={log}")
    times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    return times[len(times) // 2], times[len(times) * 99 // 100]


def summary(runs: list[_Run], p50_us: float, p99_us: float) -> Measured:
    """The medians of the repeats, beside the percentiles."""
    return Measured(
        per_second=statistics.median(run.per_second for run in runs),
        mean_us=statistics.median(run.mean_us for run in runs),
        p50_us=p50_us,
        p99_us=p99_us,
        cpu_us=statistics.median(run.cpu_us for run in runs),
        repeats=[run.per_second for run in runs],
    )


def _ask(
    server: Server, question: Question, flight: Flight, core: int, seconds: int, *extra: str
) -> _Run:
    body: Path = BUILD / "body"
    body.write_bytes(question.framed)
    command = ["taskset", "--cpu-list", str(core), "h2load", *extra]
    command += ["-c", str(flight.connections), "-m", str(flight.streams), "-D", str(seconds)]
    command += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    before = server.cpu_seconds()
    report = subprocess.run(
        [*command, f"http://{server.address}{question.path}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    cpu = server.cpu_seconds() - before
    requests, succeeded = map(
        int, _found(r"(\d+) done, (\d+) succeeded, 0 failed, 0 errored", report)
    )
    if not requests == succeeded > 0:
        raise RuntimeError(f"{server.name} failed some requests:\n{report}")
    _check_sizes(question, requests, report)
    value, unit = _found(r"time for request: +\S+ +\S+ +([\d.]+)(us|ms|s) ", report)
    return _Run(
        requests=requests,
        per_second=float(_found(r"finished in \S+, ([\d.]+) req/s", report)[0]),
        mean_us=float(value) * MICROSECONDS[unit],
        cpu_us=cpu / requests * 1e6,
    )


def _check_sizes(question: Question, requests: int, report: str) -> None:
    """Every answer is as long as one that was looked at: an error has no body at all."""
    # Answers under way at the end are not among the requests, though their bytes are counted.
    received = int(_found(r"\((\d+)\) data", report)[0])
    least = requests * (question.answer_bytes - question.answer_slack)
    if received < least:
        raise RuntimeError(f"expected at least {least:,} bytes of answers, got {received:,}")


def _found(pattern: str, report: str) -> tuple[str, ...]:
    match = re.search(pattern, report)
    if match is None:
        raise RuntimeError(f"h2load's report has no {pattern!r}:\n{report}")
    return match.groups()
