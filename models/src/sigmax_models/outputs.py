"""The outputs of a module: a tensor, or a tuple, dict or dataclass of tensors to choose from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch

from sigmax_models.declaration import Activation
from sigmax_models.errors import ExportError

# An output of a module: its place, from 0, or its name in a dict, dataclass or named tuple.
Choice = int | str


@dataclass(frozen=True)
class Output:
    """An output of a graph.

    Attributes:
        name: Name in the graph.
        activation: Activation that the export adds to the module's output, along the last axis.
        place: Place of the output among those of the module, from 0.
    """

    name: str
    activation: Activation | None = None
    place: int = 0


def parts(result: Any) -> list[tuple[str, Any]]:
    """Return what a module has returned, each part with its name; without names they are empty."""
    if isinstance(result, Mapping):
        return [(str(name), value) for name, value in result.items()]
    if is_dataclass(result):
        named = [(field.name, getattr(result, field.name)) for field in fields(result)]
        return [(name, value) for name, value in named if value is not None]
    if isinstance(result, (tuple, list)):
        names = getattr(result, "_fields", [""] * len(result))
        return list(zip(names, result, strict=True))
    return [("", result)]


def place_of(result: Any, choice: Choice | None) -> int:
    """Return the place of the chosen output among the parts of a result.

    Args:
        result: What the module has returned.
        choice: Place or name of the output; None for the only one.

    Raises:
        ExportError: There is no such output, the output is no tensor, or there are several and
            none is chosen.
    """
    found = parts(result)
    if choice is None and len(found) != 1:
        raise ExportError(
            f"output: the module returns {len(found)}, expected one of them to be chosen, "
            f"by output=N or NAME (--output), or several as heads: {_say(found)}"
        )
    names = [name for name, _ in found]
    if choice is None:
        place = 0
    elif isinstance(choice, int):
        place = choice
    else:
        place = names.index(choice) if choice in names else -1
    if not 0 <= place < len(found):
        raise ExportError(f"output: the module has none called {choice!r}, but {_say(found)}")
    chosen = found[place][1]
    if not isinstance(chosen, torch.Tensor):
        raise ExportError(
            "output: expected the module to return a tensor, got an object of "
            f"type {type(chosen).__name__}"
        )
    return place


def _say(found: list[tuple[str, Any]]) -> str:
    """Say which outputs there are: `0 "logits" [2, 3], 1 "hidden" [2, 8]`."""
    return ", ".join(
        " ".join(
            [
                str(place),
                *([repr(name)] if name else []),
                str(list(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__,
            ]
        )
        for place, (name, value) in enumerate(found)
    )
