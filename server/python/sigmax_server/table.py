"""The table that a starting server prints: what is served, how, and what is not."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Served:
    """A model that is served, and what warming it up has shown."""

    name: str
    version: int
    inputs: str
    task: str
    device: str
    heavy: bool
    rows_independent: bool


@dataclass(frozen=True)
class Failed:
    """A model that is not served."""

    name: str
    version: int
    reason: str


_HEADER = ("MODEL", "VERSION", "INPUTS", "TASK", "DEVICE", "WEIGHT", "ROWS INDEPENDENT")


def table(outcomes: Sequence[Served | Failed]) -> str:
    """Lay the outcomes out as lines of aligned columns, those that failed last."""
    rows = [_HEADER, *(_cells(outcome) for outcome in outcomes if isinstance(outcome, Served))]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    names = [(failure.name, str(failure.version)) for failure in failures]
    widths = [
        max(len(row[column]) for row in [*rows, *(names if column < 2 else [])])
        for column in range(len(_HEADER))
    ]
    lines = [_line(row, widths) for row in rows]
    lines += [
        f"{_line(name, widths)}  not served: {failure.reason}"
        for name, failure in zip(names, failures, strict=True)
    ]
    return "\n".join(lines)


def _cells(model: Served) -> tuple[str, ...]:
    return (
        model.name,
        str(model.version),
        model.inputs,
        model.task,
        model.device,
        "heavy" if model.heavy else "light",
        "yes" if model.rows_independent else "no",
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(map(str.ljust, cells, widths)).rstrip()
