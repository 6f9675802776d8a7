"""The numbers as a Markdown table and as JSON."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.load import Measured
from bench.servers import ROOT

RESULTS = ROOT / "bench/results"


@dataclass(frozen=True)
class Row:
    """One line of the table: a server and an RPC, the rows a request, how many under way."""

    server: str
    call: str
    rows: int
    in_flight: int
    measured: Measured


@dataclass(frozen=True)
class Start:
    """What starting costs: the median time until ready, and the memory then and after load."""

    ready_seconds: float
    ready_bytes: int
    loaded_bytes: int


def table(rows: list[Row], start: Start, limits: dict[int, float]) -> str:
    """Everything as Markdown."""
    base = {
        (row.rows, row.in_flight): row.measured.per_second for row in rows if row.server == "grpcio"
    }
    heads = ["rows", "in flight", "server", "call", "requests/s", "times grpcio"]
    heads += ["mean us", "p50 us", "p99 us", "server CPU us"]
    lines = [heads, ["--:", "--:", ":--", ":--", *["--:"] * 6]]
    for row in rows:
        it = row.measured
        times = it.per_second / base[row.rows, row.in_flight]
        cells = [f"{row.rows:,}", f"{row.in_flight}", row.server, row.call]
        cells += [f"{it.per_second:,.0f}", f"{times:.1f}", f"{it.mean_us:,.0f}"]
        lines.append([*cells, f"{it.p50_us:,.0f}", f"{it.p99_us:,.0f}", f"{it.cpu_us:,.1f}"])
    for count, limit in limits.items():
        cells = [f"{count:,}", "1", "none", "ONNX Runtime in process"]
        cells += [f"{limit:,.0f}", f"{limit / base[count, 1]:.1f}", f"{1e6 / limit:,.0f}"]
        lines.append([*cells, "", "", ""])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    ready, loaded = start.ready_bytes / 2**20, start.loaded_bytes / 2**20
    return f"""{text}

`sigmax serve` is ready {start.ready_seconds:.3f} s after the start of the command.
It holds {ready:.0f} MiB then, and {loaded:.0f} MiB after this load."""


def write(rows: list[Row], start: Start, limits: dict[int, float]) -> None:
    """Keep the numbers, with where they were measured, as JSON."""
    now = datetime.now(UTC)
    RESULTS.mkdir(parents=True, exist_ok=True)
    machine = {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()}
    result = {
        "measured": now.isoformat(timespec="seconds"),
        "machine": machine,
        "load_average": os.getloadavg(),
        "rows": [asdict(row) for row in rows],
        "start": asdict(start),
        "in_process_runs_per_second": limits,
    }
    path = RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


def processor() -> str:
    """The processor's name."""
    return Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
