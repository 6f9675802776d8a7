"""Runs loads by the driver `server/core/examples/load.rs`, and reads its measurements."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.measure import Contender, Run, Settings
from bench.questions import Question
from bench.servers import EXAMPLES, Server, pinned

# Names of the gRPC status codes that a server under load answers with.
CODES = {4: "DEADLINE_EXCEEDED", 8: "RESOURCE_EXHAUSTED", 14: "UNAVAILABLE"}


@dataclass(frozen=True)
class Load:
    """A kind of request that is sent repeatedly: closed loop by `streams`, open loop by `rate`.

    Attributes:
        question: Request to send.
        connections: Number of connections, which no other load uses.
        streams: Requests in flight on each connection; an answer starts the next. None with `rate`.
        rate: Requests per second, in a Poisson process that does not wait for answers. None with
            `streams`.
        deadline_ms: Milliseconds from the time that a request is due to its deadline; None: no
            deadline.
    """

    question: Question
    connections: int = 1
    streams: int | None = None
    rate: float | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True)
class Times:
    """Times of requests, in microseconds from when they were due."""

    mean: float
    p50: float
    p99: float
    p999: float
    most: float


@dataclass(frozen=True)
class Outcome:
    """The result of a load.

    Attributes:
        seconds: Duration of the load in seconds.
        offered: Number of requests that were due.
        sent: Number of those that found room on a connection in time.
        right: Number of those that were answered, with the right bytes where these are known.
        good: Number of those that were answered within the deadline.
        refused: Numbers of requests refused, by the name of the gRPC status code.
        lost: Number of requests that were not answered, or whose answer was broken off.
        times: Times of the right answers; None where there are none.
        lag: 99th percentile of how late requests were sent, in microseconds. Late requests found
            all streams taken, or the driver was too slow.
    """

    seconds: float
    offered: int
    sent: int
    right: int
    good: int
    refused: dict[str, int]
    lost: int
    times: Times | None
    lag: float

    def clean(self) -> "Outcome":
        """Return this outcome, in which every request sent must have a right answer.

        Raises:
            RuntimeError: A request has no right answer, or none was sent.
        """
        if not self.sent == self.right > 0:
            raise RuntimeError(f"some requests were not answered: {self}")
        return self

    def run(self, cpu_seconds: float | None = None) -> Run:
        """Return the figures of one repeat.

        Args:
            cpu_seconds: CPU seconds of the server; None where other loads used it, too.
        """
        assert self.times is not None
        cpu = None if cpu_seconds is None else cpu_seconds / self.right * 1e6
        each = (self.times.mean, self.times.p50, self.times.p99, cpu)
        return Run(self.right / self.seconds, *each)


def send(server: Server, loads: Sequence[Load], cores: set[int], seconds: float) -> list[Outcome]:
    """Send all these loads at the same time from these cores, for `seconds`.

    Raises:
        RuntimeError: An answer was wrong.
    """
    with TemporaryDirectory() as folder:
        entries = [_entry(load, Path(folder), number) for number, load in enumerate(loads)]
        plan = Path(folder) / "plan.json"
        told = {"address": server.address, "seconds": seconds, "loads": entries}
        authority = {"authority": str(server.authority)} if server.authority else {}
        plan.write_text(json.dumps(told | authority))
        command = pinned(cores, [str(EXAMPLES / "load"), str(plan)])
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [_outcome(report) for report in json.loads(printed)["loads"]]


def closed(
    name: str,
    server: Server,
    question: Question,
    settings: Settings,
    connections: int = 4,
    streams: int = 16,
) -> Contender:
    """Make a contender from a server with a fixed number of requests in flight, by default 64."""
    load = Load(question, connections, streams)
    return contender(name, server, [load], settings)


def contender(name: str, server: Server, loads: Sequence[Load], settings: Settings) -> Contender:
    """Make a contender from a server under these loads at once; the figures are the first one's."""

    def run(seconds: float) -> Run:
        before = server.cpu_seconds()
        first, *others = send(server, loads, settings.load, seconds)
        cpu = server.cpu_seconds() - before
        for other in others:
            other.clean()
        return first.clean().run(None if others else cpu)

    return Contender(name, run)


def _entry(load: Load, folder: Path, number: int) -> dict[str, Any]:
    request, answer = folder / f"request-{number}", folder / f"answer-{number}"
    request.write_bytes(load.question.request)
    if load.question.answer is not None:
        answer.write_bytes(load.question.answer)
    return {
        "name": str(number),
        "path": load.question.path,
        "request": str(request),
        "answer": None if load.question.answer is None else str(answer),
        "connections": load.connections,
        "streams": load.streams,
        "rate": load.rate,
        "deadline_ms": load.deadline_ms,
    }


def _outcome(report: dict[str, Any]) -> Outcome:
    if report["wrong"]:
        raise RuntimeError(f"{report['wrong']:,} of {report['sent']:,} answers are wrong")
    refused = report["refused"].items()
    return Outcome(
        seconds=report["seconds"],
        offered=report["offered"],
        sent=report["sent"],
        right=report["right"],
        good=report["good"],
        refused={CODES.get(int(code), f"code {code}"): count for code, count in refused},
        lost=report["unanswered"] + report["broken"],
        times=Times(**report["times"]) if report["times"] else None,
        lag=report["lags"]["p99"] if report["lags"] else 0,
    )
