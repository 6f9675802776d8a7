"""The table of models that a starting server prints."""

from collections.abc import Sequence
from dataclasses import dataclass

from sigmax_server.text import plain


@dataclass(frozen=True)
class Served:
    """A version of a model that is served, with the results of warming it up.

    Attributes:
        name: name of the model.
        version: number of the version.
        inputs: names, dtypes and shapes of the inputs.
        task: task of the model; "none" where it is served raw.
        device: devices that run the model, such as "cpu" or "cuda:0".
        heavy: whether the model runs in workers of its own, and not in the shards' loops.
        rows_independent: whether a row's answer depends on that row alone.
        preferred_batch_size: rows of a batch from which on a row gets no cheaper.
        notes: lines to print below the table.
    """

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
    """A version of a model that is not served.

    Attributes:
        name: name of the model.
        version: number of the version.
        reason: reason why it is not served.
    """

    name: str
    version: int
    reason: str


_HEADER = ("MODEL", "VERSION", "INPUTS", "TASK", "DEVICE", "WEIGHT", "INDEPENDENT", "BATCH")


def table(outcomes: Sequence[Served | Failed]) -> str:
    """Return lines of aligned columns, models that failed last, and the notes below them."""
    served = [_cells(outcome) for outcome in outcomes if isinstance(outcome, Served)]
    failed = [
        _plain(outcome.name, str(outcome.version), f"not served: {outcome.reason}")
        for outcome in outcomes
        if isinstance(outcome, Failed)
    ]
    # A reason may be long, and so takes no part in the widths: it runs over the columns beside it.
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
    """Escape unprintable characters, so that texts from files add no lines to the table."""
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
