"""Regime: four networks on the first GPU, against ONNX Runtime there in process, in three ways."""

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from bench import load, questions, servers
from bench.measure import Contender, Measured, Run, Settings, in_turn
from bench.questions import Model
from bench.report import Goal, Line
from bench.servers import ROOT, Server, pinned

NAMES = ("sequential", "digits", "wide", "resnet")
ROWS = (1, 64)
# Connections and requests in flight on each, for a busy server, by the rows of a request.
IN_FLIGHT = {1: (4, 32), 64: (4, 2)}
WAYS = ("plain", "binding", "graphs")
# Calls before the first request, and requests after it.
WARM, LATER = 100, 1000
# Most that an answer may differ from the CPU's, absolute (docs/gpu.md).
TOLERANCE = 1e-4


def measure(settings: Settings) -> list[Line]:
    """Measure single requests, then a busy server; without a GPU, return one line that says so."""
    if reason := missing():
        return [Line("gpu", "not measured", notes=[reason])]
    # On a GPU the CPU is not the limit: the server has every core that the load does not.
    cores = os.sched_getaffinity(0) - settings.load
    return [line for name in NAMES for line in _network(name, cores, settings)]


def missing() -> str:
    """Return why nothing can be measured here; empty where there is a usable GPU."""
    command = [sys.executable, "-m", "sigmax_server.doctor", "--json"]
    facts = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    device = str(facts["--device auto"])
    return "" if device.startswith("cuda:") else f"it needs an NVIDIA GPU; here is {device}"


def _network(name: str, cores: set[int], settings: Settings) -> list[Line]:
    model = Model(name)
    flags = ("--device=cuda", f"--max-batch-size={max(ROWS)}")
    with servers.sigmax([model.repository], cores, *flags) as ours:
        lines = [_first(model, ours), *_alone(model, ours, cores, settings)]
        for rows in ROWS:
            lines += _busy(model, ours, rows, cores, settings)
    return lines


def _first(model: Model, ours: Server) -> Line:
    """Measure the first request after the start, against those after it, on a warm connection."""
    question = questions.model_infer_of_anyone(model, 1)
    live, message = f"{question.path.rpartition('/')[0]}/ServerLive", question.request[5:]
    with grpc.insecure_channel(ours.address) as channel:

        def seconds(path: str, message: bytes) -> float:
            call: Any = channel.unary_unary(path)
            begun = time.perf_counter()
            call(message, timeout=60)
            return time.perf_counter() - begun

        for _ in range(WARM):
            seconds(live, b"")
        first, *later = (seconds(question.path, message) for _ in range(1 + LATER))
    usual = statistics.median(later)
    goals = [Goal("of the median of those after it", first / usual, 2, most=True)]
    notes = [f"{first * 1e6:,.0f} us, then {usual * 1e6:,.0f}"]
    return Line(f"gpu: {model.name}, the first request", "sigmax", None, goals, notes)


def _alone(model: Model, ours: Server, cores: set[int], settings: Settings) -> list[Line]:
    """Measure requests of one row, one in flight."""
    question = questions.model_infer(ours, model, 1, TOLERANCE).with_any_answer()
    asked = load.closed("sigmax", ours, question, settings, connections=1, streams=1)
    contenders = [asked, *(_in_process(model.file, 1, way, cores) for way in WAYS)]
    measured = in_turn(contenders, settings)
    more = measured[0].median.mean_us - measured[-1].median.mean_us
    goals = [Goal("us more than in process with graphs", more, 60, most=True)]
    return _lines(f"gpu: {model.name}, 1 row, 1 in flight", contenders, measured, 1, goals)


def _busy(model: Model, ours: Server, rows: int, cores: set[int], settings: Settings) -> list[Line]:
    """Measure rows per second, against runs in process of the batch size that the server forms."""
    question = questions.model_infer(ours, model, rows, TOLERANCE).with_any_answer()
    connections, streams = IN_FLIGHT[rows]
    asked = load.closed("sigmax", ours, question, settings, connections, streams)
    batch = round(ours.batch_rows(model.name, lambda: asked.run(1)))
    contenders = [asked, *(_in_process(model.file, batch, way, cores) for way in WAYS)]
    measured = in_turn(contenders, settings)
    ours_s = measured[0].median.per_second * rows
    share = ours_s / (measured[-1].median.per_second * batch)
    goals = [Goal("of in process with graphs, in rows", share, 0.9)]
    regime = f"gpu: {model.name}, {rows} rows, {connections * streams} in flight"
    lines = _lines(regime, contenders, measured, batch, goals)
    lines[0].notes.append(f"{ours_s:,.0f} rows/s; {batch} rows a batch; {_share_busy(asked)}")
    return lines


def _lines(
    regime: str,
    contenders: list[Contender],
    measured: list[Measured],
    batch: int,
    goals: list[Goal],
) -> list[Line]:
    first, *others = zip(contenders, measured, strict=True)
    return [
        Line(regime, first[0].name, first[1], goals),
        *(
            Line(regime, who.name, what, [], [f"{what.median.per_second * batch:,.0f} rows/s"])
            for who, what in others
        ),
    ]


def _in_process(file: Path, rows: int, way: str, cores: set[int]) -> Contender:
    def run(seconds: float) -> Run:
        peer = [sys.executable, "-m", "bench.peers.gpu_in_process"]
        command = pinned(cores, [*peer, str(file), str(rows), str(seconds), way])
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        printed = done.stdout
        return Run(float(printed), 1e6 / float(printed))

    return Contender(f"in process, {way}, {rows} rows", run)


def _share_busy(asked: Contender) -> str:
    """Return the share of the time that the GPU is busy under this load, as its driver reports."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    seen = []
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(asked.run, 3)
        while not asking.done():
            seen.append(int(subprocess.check_output(query, text=True)))
        asking.result()
    return f"GPU busy {sum(seen) / len(seen):.0f} % of the time"
