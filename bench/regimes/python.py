"""Regime: one Python thread, 1 request in flight, by the SDK and by Triton's own client.

The clients take turns of some milliseconds in one process, for a busy machine changes by the
second. The CPU is that of this process, not the server's.
"""

import json
import subprocess
import sys

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
    """Measure calls of 1 and of 64 rows."""
    model = Model("sequential")
    with servers.sigmax([model.repository], settings.server) as server:
        return [line for rows in (1, 64) for line in _of_rows(rows, model, server, settings)]


def _of_rows(rows: int, model: Model, server: Server, settings: Settings) -> list[Line]:
    repeats = [_in_short_turns(rows, model.name, server, settings) for _ in range(settings.repeats)]
    measured = [together([runs[client] for runs in repeats]) for client in CLIENTS]
    *ours, peer = (each.median.cpu_us or 0 for each in measured)
    goals = [[Goal("of tritonclient's CPU", each / peer, 1, most=True)] for each in ours]
    name = f"Python, {rows} {'row' if rows == 1 else 'rows'}, 1 in flight"
    lines = zip(CLIENTS.values(), measured, [*goals, []], strict=True)
    return [Line(name, who, what, reach) for who, what, reach in lines]


def _in_short_turns(rows: int, model: str, server: Server, settings: Settings) -> dict[str, Run]:
    peer = [sys.executable, str(ROOT / "bench/peers/python_client.py")]
    words = [server.address, model, str(rows), str(settings.seconds)]
    command = pinned(settings.load, [*peer, *words])
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    runs = {}
    for client, told in json.loads(printed).items():
        each_us = {name: told[name] / told["calls"] * 1e6 for name in ("seconds", "cpu_seconds")}
        runs[client] = Run(
            1e6 / each_us["seconds"], each_us["seconds"], cpu_us=each_us["cpu_seconds"]
        )
    return runs
