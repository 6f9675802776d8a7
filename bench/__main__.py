"""Measures, prints one Markdown table and writes the numbers to bench/results/."""

import argparse
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from bench import load, questions, report, servers
from bench.load import Flight
from bench.questions import Model, Question
from bench.report import Row, Start
from bench.servers import ROOT, Server

FLIGHTS = [Flight(connections=4, streams=16), Flight(connections=1, streams=1)]
ROWS = [1, 1024]
STARTS = 5


def main() -> None:
    """Run the whole comparison: a few minutes."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--model", default="sequential", help="its name in the repository")
    parser.add_argument(
        "--repository", type=Path, default=servers.BUILD / "models", help="made where it is missing"
    )
    parser.add_argument("--seconds", type=int, default=3, help="of one repeat")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    cores = sorted(os.sched_getaffinity(0))
    if not load.available():
        print("bench: skipped: h2load is missing; on Debian: apt-get install nghttp2-client")
        return
    if len(cores) < 2:
        print("bench: skipped: it needs two cores, one for the server and one for the load")
        return

    file = exported(arguments.repository, arguments.model)
    model = Model(file, arguments.model)
    ready = [ready_seconds(arguments.repository) for _ in range(STARTS)]
    with ExitStack() as stack:
        ours = stack.enter_context(servers.sigmax(arguments.repository, {cores[0]}))
        theirs = stack.enter_context(servers.grpcio(file, {cores[0]}))
        at_ready = ours.resident_bytes()
        rows = [
            row
            for count in ROWS
            for flight in FLIGHTS
            for row in compare(ours, theirs, model, count, flight, cores[-1], arguments)
        ]
        start = Start(statistics.median(ready), at_ready, ours.resident_bytes())
    limits = {count: in_process(file, count, cores[0], arguments.seconds) for count in ROWS}
    print(report.table(rows, start, limits))
    report.write(rows, start, limits)


def exported(repository: Path, name: str) -> Path:
    """The model's file in this repository, trained and exported first where there is none."""
    file = repository / name / "1/model.onnx"
    if not file.exists():
        sigmax = Path(sys.executable).parent / "sigmax"
        subprocess.run([sigmax, "train", name, "--repository", repository], check=True)
    return file


def ready_seconds(repository: Path) -> float:
    """How long one start takes, on all cores."""
    with servers.sigmax(repository, os.sched_getaffinity(0)) as server:
        return server.ready_seconds


def compare(
    ours: Server,
    theirs: Server,
    model: Model,
    count: int,
    flight: Flight,
    core: int,
    arguments: argparse.Namespace,
) -> list[Row]:
    """The contenders in turn, once a repeat, so that all share the machine's moods."""
    with questions.model_infer_shared(ours, model, count) as shared:
        contenders: list[tuple[Server, Question]] = [
            (ours, questions.model_infer(ours, model, count)),
            (ours, shared),
            (ours, questions.classify(ours, model, count)),
            (theirs, questions.model_infer(theirs, model, count)),
        ]
        return measure(contenders, count, flight, core, arguments)


def measure(
    contenders: list[tuple[Server, Question]],
    count: int,
    flight: Flight,
    core: int,
    arguments: argparse.Namespace,
) -> list[Row]:
    """One row of the table for each."""
    for server, question in contenders:
        load.warm_up(server, question, flight, core)
    repeats = [
        [load.repeat(*contender, flight, core, arguments.seconds) for contender in contenders]
        for _ in range(arguments.repeats)
    ]
    rows = []
    for contender, runs in zip(contenders, zip(*repeats, strict=True), strict=True):
        times = load.percentiles(*contender, flight, core, arguments.seconds)
        server, question = contender
        measured = load.summary(list(runs), *times)
        rows.append(Row(server.name, question.call, count, flight.requests, measured))
    return rows


def in_process(file: Path, count: int, core: int, seconds: int) -> float:
    """Runs a second of ONNX Runtime alone on the server's core."""
    peer = ROOT / "bench/peers/in_process.py"
    pinned = ["taskset", "--cpu-list", str(core), sys.executable, str(peer)]
    command = [*pinned, str(file), str(count), str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
