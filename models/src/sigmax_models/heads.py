"""The heads of a network: what its file declares, of one output or of several."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sigmax_models.declaration import OUTPUT, Declaration
from sigmax_models.errors import ExportError
from sigmax_models.outputs import Choice, Output, parts, place_of

# Version of the metadata; docs/model-format.md describes all keys.
FORMAT = "1"
# Most heads of a file.
MOST_HEADS = 64

# Which outputs of the module are exported: one, or one for each head, by its name.
Choices = Choice | Mapping[str, Choice]


@dataclass(frozen=True)
class Head:
    """A declaration, with the output that it is about.

    Attributes:
        name: Name of the head; empty for the only declaration of a file.
        declaration: Task, labels, thresholds.
        output: Output of the graph.
    """

    name: str
    declaration: Declaration
    output: Output


def as_heads(
    declared: Declaration | Mapping[str, Declaration], choices: Choices | None, result: Any
) -> list[Head]:
    """Return the heads of a network, each with its output.

    Args:
        declared: Declaration of the file, or declarations of its heads by their names.
        choices: Output of the module that is exported; for heads, that of each by its name. A head
            without one gets the output of its name, or of its place.
        result: What the module has returned.

    Raises:
        ExportError: A head is not named or has no task, or an output is not there.
    """
    if isinstance(declared, Declaration):
        if isinstance(choices, Mapping):
            raise ExportError("output: expected heads, a dict of declarations, for several outputs")
        place = place_of(result, choices)
        return [Head("", declared, Output(declared.output, declared.activation, place))]
    if not isinstance(declared, Mapping):
        raise ExportError(
            "declaration: expected a Declaration, or a dict of them by the names of heads, "
            f"got {declared!r}"
        )
    _check_heads(declared, choices)
    names = [name for name, _ in parts(result)]
    chosen = choices if isinstance(choices, Mapping) else {}
    outputs: dict[tuple[int, str | None], Output] = {}
    heads = []
    for number, (name, declaration) in enumerate(declared.items()):
        place = place_of(result, chosen.get(name, name if name in names else number))
        own = name if declaration.output == OUTPUT else declaration.output
        output = Output(own, declaration.activation, place)
        # Heads about one output share it: they differ in labels or thresholds.
        output = outputs.setdefault((place, declaration.activation), output)
        heads.append(Head(name, declaration, output))
    return heads


def outputs_of(heads: Sequence[Head]) -> list[Output]:
    """Return the outputs of heads, each once.

    Raises:
        ExportError: Two outputs have one name.
    """
    outputs = list(dict.fromkeys(head.output for head in heads))
    names = [output.name for output in outputs]
    if len(set(names)) < len(names):
        raise ExportError(f"output: expected another name for each, got {names}")
    return outputs


def inputs_of(heads: Sequence[Head]) -> dict[str, dict[str, str]]:
    """Return what any head states of the inputs by their names: a `meaning`, an `encoding`.

    Raises:
        ExportError: Two heads state other meanings of one input.
    """
    inputs: dict[str, dict[str, str]] = {}
    for head in heads:
        for name, meaning in head.declaration.meanings.items():
            if inputs.setdefault(name, {}).setdefault("meaning", meaning) != meaning:
                raise ExportError(f"meanings: heads state two of {name!r}")
        for name, encoding in head.declaration.encodings.items():
            inputs.setdefault(name, {})["encoding"] = encoding
    return inputs


def metadata(heads: Sequence[Head], classes: Mapping[str, int]) -> dict[str, str]:
    """Return the metadata_props that follow from the declarations.

    Args:
        heads: Heads of the file.
        classes: Number of elements that each output has for each row, by its name.
    """
    entries = {"sigmax.format": FORMAT}
    facts = [head.declaration.facts(classes[head.output.name]) for head in heads]
    if heads[0].name:
        listed = [
            {"name": head.name, "output": head.output.name, **facts}
            for head, facts in zip(heads, facts, strict=True)
        ]
        entries["sigmax.heads"] = _json(listed)
    else:
        for key, value in facts[0].items():
            entries[f"sigmax.{key}"] = value if isinstance(value, str) else _json(value)
    if inputs := inputs_of(heads):
        # An input with a meaning alone is a string, which every reader knows.
        stated = {
            name: said if "encoding" in said else said["meaning"] for name, said in inputs.items()
        }
        entries["sigmax.inputs"] = _json(stated)
    return entries


def _check_heads(declared: Mapping[str, Declaration], choices: Choices | None) -> None:
    if not 1 <= len(declared) <= MOST_HEADS:
        raise ExportError(f"heads: expected 1 to {MOST_HEADS}, got {len(declared)}")
    for name, declaration in declared.items():
        if not isinstance(name, str) or not name:
            raise ExportError(f"heads: expected names that are not empty, got {name!r}")
        if not isinstance(declaration, Declaration):
            raise ExportError(f"head {name!r}: expected a Declaration, got {declaration!r}")
        if declaration.task is None:
            raise ExportError(f"head {name!r}: expected a task, got none")
    if choices is not None and not isinstance(choices, Mapping):
        raise ExportError(f"output: expected one for each head, by its name, got {choices!r}")
    if unknown := set(choices or {}) - set(declared):
        raise ExportError(f"output: no head is named {sorted(unknown)}, only {list(declared)}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
