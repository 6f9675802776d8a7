"""The commands `sigmax classify` and `sigmax infer`."""

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from sigmax import Classification, Client, Model, Result, _inputs, _tensor
from sigmax._cli import rows
from sigmax._cli.printing import print_csv, print_lines, print_table
from sigmax._cli.streams import CommandError

_MOST_SHOWN: Final = 8  # values of an output in a table


def classify(client: Client, options: argparse.Namespace) -> None:
    """Classify rows."""
    requests = rows.source(options)
    model = client.model(options.name, version=options.model_version)
    answers: list[Classification] = []
    for inputs in requests(model):
        result = client.classify(
            options.name,
            inputs,
            version=options.model_version,
            head=options.head,
            top_k=options.top_k,
            threshold=options.threshold,
            return_probabilities=False,
        )
        if options.output == "json":
            print_lines(_row_facts(result, row) for row in result)
        else:
            answers += result
    if options.output == "table":
        lines = [(str(number), *_row_cells(row)) for number, row in enumerate(answers)]
        print_table(("row", "decided", "most probable"), lines)
    elif options.output == "csv":
        _print_classes(answers)


def _row_facts(result: Result, row: Classification) -> dict[str, Any]:
    return {
        "model": result.model,
        "version": result.version,
        **({"head": result.head} if result.head else {}),
        "decision": [asdict(decided) for decided in row.decision],
        "classes": [asdict(scored) for scored in row.classes],
    }


def _row_cells(row: Classification) -> tuple[str, str]:
    top = ", ".join(f"{c.label or c.index} {c.probability:.4f}" for c in row.top(3))
    return _decided(row, ", ") or "-", top


def _decided(row: Classification, separator: str) -> str:
    return separator.join(scored.label or str(scored.index) for scored in row.decision)


def _print_classes(answers: list[Classification]) -> None:
    """Print a line of CSV for each row, with a column for each class."""
    names = {c.index: c.label or str(c.index) for row in answers for c in row.classes}
    indices = sorted(names)
    lines = []
    for number, row in enumerate(answers):
        found = {scored.index: scored.probability for scored in row.classes}
        lines.append((number, _decided(row, ";"), *(found.get(index, "") for index in indices)))
    print_csv(("row", "decided", *(names[index] for index in indices)), lines)


def infer(client: Client, options: argparse.Namespace) -> None:
    """Run a model, and print its outputs as they are."""
    requests = rows.source(options)
    model = client.model(options.name, version=options.model_version)
    answers: list[Mapping[str, _tensor.Array]] = []
    for inputs in requests(model):
        single = _inputs.read(model, inputs)[1]
        outputs = client.infer(
            options.name, inputs, outputs=options.only, version=options.model_version
        )
        for answer in _each_row(model, outputs, single):
            if options.output == "json":
                values = {name: _json_values(array) for name, array in answer.items()}
                print_lines([{"model": options.name, "outputs": values}])
            else:
                answers.append(answer)
    if options.output == "table" and answers:
        header = ("row", *answers[0])
        lines = [(str(n), *map(_shown, answer.values())) for n, answer in enumerate(answers)]
        print_table(header, lines)
    elif options.output == "csv" and answers:
        _print_values(answers)


def _each_row(
    model: Model, outputs: Mapping[str, _tensor.Array], single: bool
) -> Iterator[Mapping[str, _tensor.Array]]:
    """Yield the outputs of each row; all outputs at once where they are not those of rows."""
    counts = {array.shape[0] if array.ndim else -1 for array in outputs.values()}
    if single or not model.max_batch_size or len(counts) != 1 or -1 in counts:
        yield outputs
        return
    for index in range(counts.pop()):
        yield {name: array[index, ...] for name, array in outputs.items()}


def _print_values(answers: list[Mapping[str, _tensor.Array]]) -> None:
    """Print a line of CSV for each row, with a column for each value."""
    shapes = {name: array.shape for name, array in answers[0].items()}
    for answer in answers:
        if {name: array.shape for name, array in answer.items()} != shapes:
            raise CommandError("the outputs of the rows differ in their shapes: use --output json")
    header = ["row"]
    for name, shape in shapes.items():
        size = math.prod(shape)
        header += [name] if size == 1 else [f"{name}[{place}]" for place in range(size)]
    lines = (
        [number, *(cell for array in answer.values() for cell in _json_values(array.reshape(-1)))]
        for number, answer in enumerate(answers)
    )
    print_csv(header, lines)


def _shown(array: _tensor.Array) -> str:
    values = _json_values(array.reshape(-1)[:_MOST_SHOWN])
    more = f", ... ({array.size} values)" if array.size > _MOST_SHOWN else ""
    return ", ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in values) + more


def _json_values(array: _tensor.Array) -> Any:
    """Return an array as lists that JSON can hold: NaN and infinities as texts, bytes as UTF-8."""
    return _json_value(array.tolist())


def _json_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_value(each) for each in value]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
