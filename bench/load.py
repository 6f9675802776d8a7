"""Load from `server/core/examples/load.rs`, and what it measured."""

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

# gRPC's status codes that a server under load answers with.
CODES = {4: "DEADLINE_EXCEEDED", 8: "RESOURCE_EXHAUSTED", 14: "UNAVAILABLE"}


@dataclass(frozen=True)
class Load:
    """One kind of request, sent over and over: closed with `streams`, open with `rate`.

    Attributes:
        question: What is sent.
        connections: Its own.
        streams: Requests under way on each connection; the next begins when one is answered.
        rate: Requests a second, in a Poisson process, answered or not.
        deadline_ms: Of every request, in milliseconds from when it is due; none: for ever.
    """

    question: Question
    connections: int = 1
    streams: int | None = None
    rate: float | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True)
class Times:
    """In microseconds, from when requests were due."""

    mean: float
    p50: float
    p99: float
    p999: float
    most: float


@dataclass(frozen=True)
class Outcome:
    """What came of a load.

    Attributes:
        seconds: How long it lasted.
        offered: Requests that were due.
        sent: Of them, those that found room on a connection in time.
        right: Answered, with the right bytes where those are known.
        good: Of them, those within the deadline.
        refused: How many, by the name of gRPC's status code.
        lost: Not answered at all, or broken off.
        times: Of right answers.
        lag: 99 of 100 were sent at most so many microseconds late: all streams were taken, or
            the driver was too slow.
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
        """This, where every request that was sent was answered rightly.

        Raises:
            RuntimeError: Some were not.
        """
        if not self.sent == self.right > 0:
            raise RuntimeError(f"some requests were not answered: {self}")
        return self

    def run(self, cpu_seconds: float | None = None) -> Run:
        """Its figures as one repeat's; without the server's CPU time where others had it too."""
        assert self.times is not None
        cpu = None if cpu_seconds is None else cpu_seconds / self.right * 1e6
        each = (self.times.mean, self.times.p50, self.times.p99, cpu)
        return Run(self.right / self.seconds, *each)


def send(server: Server, loads: Sequence[Load], cores: set[int], seconds: float) -> list[Outcome]:
    """Send all these loads at once from these cores, for so many seconds.

    Raises:
        RuntimeError: An answer was not what it must be.
    """
    with TemporaryDirectory() as folder:
        entries = [_entry(load, Path(folder), number) for number, load in enumerate(loads)]
        plan = Path(folder) / "plan.json"
        plan.write_text(
            json.dumps({"address": server.address, "seconds": seconds, "loads": entries})
        )
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
    """A server that is asked with so many requests under way: 64 unless told otherwise."""
    load = Load(question, connections, streams)
    return contender(name, server, [load], settings)


def contender(name: str, server: Server, loads: Sequence[Load], settings: Settings) -> Contender:
    """A server under these loads at once; the first is the one whose figures are told."""

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
