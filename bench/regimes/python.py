"""Regime: one Python thread, 1 request in flight, by the SDK and by Triton's own client.

The clients take turns of some milliseconds in one process, for a busy machine changes by the
second. The CPU is that of this process, not the server's.
"""

import json
import subprocess
import sys
from typing import Any

from bench import servers
from bench.measure import Run, Settings, together
from bench.questions import Model
from bench.report import Goal, Line
from bench.servers import ROOT, Server, pinned

CLIENTS = {
    "classify": "sigmax, Classify",
    "infer": "sigmax, ModelInfer",
    "tritonclient": "tritonclient, ModelInfer",
}


def measure(settings: Settings) -> list[Line]:
    """Measure calls of 1 and of 64 rows, and any number of rows by `classify_many`."""
    model = Model("sequential")
    with servers.sigmax([model.repository], settings.server) as server:
        lines = [line for rows in (1, 64) for line in _of_rows(rows, model, server, settings)]
        return [*lines, _of_many_rows(model, server, settings)]


def _of_rows(rows: int, model: Model, server: Server, settings: Settings) -> list[Line]:
    repeats = [_in_short_turns(rows, model.name, server, settings) for _ in range(settings.repeats)]
    measured = [together([runs[client] for runs in repeats]) for client in CLIENTS]
    *ours, peer = (each.median.cpu_us or 0 for each in measured)
    goals = [[Goal("of tritonclient's CPU", each / peer, 1, most=True)] for each in ours]
    name = f"Python, {rows} {'row' if rows == 1 else 'rows'}, 1 in flight"
    lines = zip(CLIENTS.values(), measured, [*goals, []], strict=True)
    return [Line(name, who, what, reach) for who, what, reach in lines]


def _of_many_rows(model: Model, server: Server, settings: Settings) -> Line:
    words = [server.address, model.name, str(settings.seconds)]
    told = [_told("python_many.py", words, settings) for _ in range(settings.repeats)]
    measured = together([_run(each) for each in told])
    goal = Goal("rows/s", measured.median.per_second, 300_000)
    return Line("Python, classify_many, top 1", "sigmax, each row", measured, [goal])


def _in_short_turns(rows: int, model: str, server: Server, settings: Settings) -> dict[str, Run]:
    words = [server.address, model, str(rows), str(settings.seconds)]
    told = _told("python_client.py", words, settings)
    return {client: _run(each) for client, each in told.items()}


def _told(peer: str, words: list[str], settings: Settings) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "bench/peers" / peer), *words]
    printed = subprocess.run(
        pinned(settings.load, command), check=True, stdout=subprocess.PIPE, text=True
    )
    told: dict[str, Any] = json.loads(printed.stdout)
    return told


def _run(told: dict[str, float]) -> Run:
    seconds, cpu = (told[name] / told["calls"] for name in ("seconds", "cpu_seconds"))
    return Run(1 / seconds, seconds * 1e6, cpu_us=cpu * 1e6)
