"""The table that a starting server prints: what is served, how, and what is not."""

from collections.abc import Sequence
from dataclasses import dataclass

from sigmax_server.text import plain


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
    preferred_batch_size: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A model that is not served."""

    name: str
    version: int
    reason: str


_HEADER = ("MODEL", "VERSION", "INPUTS", "TASK", "DEVICE", "WEIGHT", "INDEPENDENT", "BATCH")


def table(outcomes: Sequence[Served | Failed]) -> str:
    """Lay the outcomes out as lines of aligned columns, those that failed last, and notes."""
    served = [_cells(outcome) for outcome in outcomes if isinstance(outcome, Served)]
    failed = [
        _plain(outcome.name, str(outcome.version), f"not served: {outcome.reason}")
        for outcome in outcomes
        if isinstance(outcome, Failed)
    ]
    # A reason may be long, and runs over the columns to its right.
    aligned = [_HEADER, *served, *((*row[:2], *[""] * len(_HEADER[2:])) for row in failed)]
    widths = [max(map(len, column)) for column in zip(*aligned, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in (_HEADER, *served, *failed))
    notes = (
        plain(f"{each.name}: {note}")
        for each in outcomes
        if isinstance(each, Served)
        for note in each.notes
    )
    return "\n".join([*(line.rstrip() for line in lines), *notes])


def _plain(*cells: str) -> tuple[str, ...]:
    """What comes from files makes no line that is not ours."""
    return tuple(map(plain, cells))


def _cells(model: Served) -> tuple[str, ...]:
    return _plain(
        model.name,
        str(model.version),
        model.inputs,
        model.task,
        model.device,
        "heavy" if model.heavy else "light",
        "yes" if model.rows_independent else "no",
        str(model.preferred_batch_size) if model.rows_independent else "none",
    )
