"""Regime: the start with one small model, its time until ready and its memory."""

import os
import statistics

from bench import servers
from bench.measure import Settings
from bench.questions import Model
from bench.report import Goal, Line


def measure(settings: Settings) -> list[Line]:
    """Measure the medians of several starts on all cores, from the start of the command."""
    model = Model("sequential")
    seconds, resident = [], []
    for _ in range(settings.repeats):
        with servers.sigmax([model.repository], os.sched_getaffinity(0)) as server:
            seconds.append(server.ready_seconds)
            resident.append(server.resident_bytes() / 2**20)
    goals = [
        Goal("s until ready", statistics.median(seconds), 0.2, most=True),
        Goal("MiB resident", statistics.median(resident), 60, most=True),
    ]
    return [Line("start with one small model", "sigmax", goals=goals)]
