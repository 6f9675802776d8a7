"""Regime: the first GPU's answers, their distance from the CPU's and between batch sizes."""

import os

import grpc
import numpy as np

from bench import questions, servers
from bench.measure import Settings
from bench.questions import Model, Rows
from bench.regimes import gpu
from bench.report import Goal, Line
from bench.servers import Server

NAMES = ("linear", "sequential", "mammal", "animal", "digits", "language", "dtmf")
# Batch sizes: those that the server makes ready, and one row less than each.
FULL = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES = sorted({*FULL, *(size - 1 for size in FULL if size > 1)})


def measure(settings: Settings) -> list[Line]:
    """Return a line for each network; without a GPU, one line with the reason."""
    if reason := gpu.missing():
        return [Line("gpu answers", "not measured", notes=[reason])]
    cores = os.sched_getaffinity(0)
    return [_network(Model(name), cores) for name in NAMES]


def _network(model: Model, cores: set[int]) -> Line:
    rows = model.rows(max(SIZES))
    flags = ("--device=cuda", f"--max-batch-size={max(SIZES)}")
    with servers.sigmax([model.repository], cores, *flags) as server:
        answers = {size: _answer(server, model, rows[:size]) for size in SIZES}
    largest = answers[max(SIZES)]
    difference = max(_off(answer, model.answer(rows[:size])) for size, answer in answers.items())
    alike = [size for size in SIZES if answers[size].tobytes() == largest[:size].tobytes()]
    between = max(_off(answer, largest[:size]) for size, answer in answers.items())
    goals = [Goal("off the CPU's", difference, gpu.TOLERANCE, most=True)]
    sizes = "every size" if alike == SIZES else f"batches of {', '.join(map(str, alike))}"
    note = f"the same bits in {sizes}; {between:.1e} between sizes at most"
    return Line(f"gpu answers: {model.name}", "sigmax", None, goals, [note])


def _answer(server: Server, model: Model, rows: Rows) -> Rows:
    """Return the server's answer to these rows in one request, [rows, classes]."""
    with grpc.insecure_channel(server.address) as channel:
        raw = questions.raw_answer(channel, model, rows)
    return np.frombuffer(raw, np.float32).reshape(len(rows), -1)


def _off(one: Rows, other: Rows) -> float:
    return float(np.abs(one - other.reshape(one.shape)).max())
