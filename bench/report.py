"""Writes the figures as a Markdown table and as JSON, with the machine, versions and commit."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import onnxruntime  # type: ignore[import-untyped]

from bench.measure import Measured
from bench.servers import ROOT

RESULTS = ROOT / "bench/results"
# A larger spread, as a share of the median, comes from the machine and not from the contender.
DISTURBED = 0.2


@dataclass(frozen=True)
class Goal:
    """A figure with a lower or an upper bound.

    Attributes:
        text: Unit or meaning of the figure, such as "times grpcio".
        value: Measured value.
        bound: Value to reach.
        most: Whether the bound is an upper one.
    """

    text: str
    value: float
    bound: float
    most: bool = False

    @property
    def reached(self) -> bool:
        """Whether the value is within the bound."""
        return self.value <= self.bound if self.most else self.value >= self.bound

    def __str__(self) -> str:
        side = "at most" if self.most else "at least"
        verdict = "reached" if self.reached else "**missed**"
        return f"{self.value:.3g} {self.text} ({side} {self.bound:g}: {verdict})"


@dataclass(frozen=True)
class Line:
    """A line of the table: a contender of a regime.

    Attributes:
        regime: Name of the regime, such as "1 row, 1 in flight".
        contender: Name of the contender, such as "sigmax".
        measured: Figures under load; None where there was no load.
        goals: Goals of the contender.
        notes: Other findings.
    """

    regime: str
    contender: str
    measured: Measured | None = None
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


HEADS = ["regime", "contender", "requests/s", "spread", "mean us", "p50 us", "p99 us", "CPU us"]


def table(lines: Sequence[Line]) -> str:
    """Return the lines as a Markdown table."""
    rows = [[*HEADS, "against its goals"], [":--", ":--", *["--:"] * 6, ":--"]]
    for line in lines:
        said = "; ".join([*map(str, line.goals), *line.notes])
        rows.append([line.regime, line.contender, *_cells(line.measured), said])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(measured: Measured | None) -> list[str]:
    if measured is None:
        return [""] * 6
    it = measured.median
    spread = (measured.most - measured.least) / it.per_second
    times = [f"{value:,.0f}" if value else "" for value in (it.mean_us, it.p50_us, it.p99_us)]
    cpu = f"{it.cpu_us:,.1f}" if it.cpu_us else ""
    mark = "**" if spread > DISTURBED else ""
    return [f"{it.per_second:,.0f}", f"{mark}{spread:.0%}{mark}", *times, cpu]


def setting() -> dict[str, str]:
    """Return the machine, the versions, the commit and the time that figures belong to."""
    commit = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    changed = " with changes" if _git("status", "--porcelain", "--untracked-files=no") else ""
    cores = f"{os.cpu_count()} cores"
    return {
        "machine": f"{processor()}, {cores}, Linux {platform.release()}",
        "versions": f"onnxruntime {onnxruntime.__version__}, grpcio {version('grpcio')}, "
        f"Python {platform.python_version()}",
        "commit": commit + changed,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(lines: Sequence[Line], where: dict[str, str]) -> Path:
    """Write the figures as JSON, and return the file's path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    said = [asdict(line) | {"reached": [goal.reached for goal in line.goals]} for line in lines]
    path = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(where | {"lines": said}, indent=2) + "\n")
    return path


def processor() -> str:
    """Return the processor's name."""
    return Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()
