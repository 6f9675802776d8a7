"""The commands `sigmax models` and `sigmax model`."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict

from sigmax import Client, Head, Model, TensorSpec
from sigmax._cli.printing import print_csv, print_lines, print_table


def models(client: Client, options: argparse.Namespace) -> None:
    """List a server's models."""
    found = client.models()
    if options.output == "json":
        print_lines(asdict(model) for model in found)
        return
    header = ("model", "version", "state", "task", "reason")
    rows = [
        (model.name, version.version, version.state, model.task or "-", version.reason)
        for model in found
        for version in model.versions
    ]
    if options.output == "csv":
        print_csv(header, rows)
    else:
        print_table(header, rows)


def model(client: Client, options: argparse.Namespace) -> None:
    """Describe one model."""
    described = client.model(options.name, version=options.model_version)
    if options.output == "json":
        print_lines([asdict(described)])
    elif options.output == "csv":
        print_csv(("fact", "value"), _facts(described))
    else:
        print_table(None, _facts(described))


def _facts(model: Model) -> list[tuple[str, str]]:
    why = model.device_reason
    return [
        ("model", model.name),
        ("version", model.version),
        ("task", model.task or "none: raw output"),
        *(("input", _tensor_line(spec)) for spec in model.inputs),
        *(("output", _tensor_line(spec)) for spec in model.outputs),
        ("labels", ", ".join(model.labels) or "-"),
        ("thresholds", _numbers(model.thresholds)),
        *(("head", _head_line(head)) for head in model.heads if head.name),
        ("device", f"{model.device} ({why})" if why else model.device),
        ("largest batch", f"{model.max_batch_size} rows" if model.max_batch_size else "no batches"),
        ("rows independent", "yes" if model.rows_independent else "no"),
        *(("versions", f"{v.version} {v.state} {v.reason}") for v in model.versions),
        *(("warning", text) for text in model.warnings),
    ]


def _tensor_line(spec: TensorSpec) -> str:
    encoding = f"text in {spec.encoding}; " if spec.encoding else ""
    shape = "any shape" if spec.any_rank else list(spec.shape)
    return f"{spec.name} {spec.dtype} {shape} {encoding}{spec.meaning}"


def _head_line(head: Head) -> str:
    labels = ", ".join(head.labels) or "-"
    thresholds = f"; thresholds {_numbers(head.thresholds)}" if head.thresholds else ""
    return f"{head.name}: {head.task} from {head.output}; labels {labels}{thresholds}"


def _numbers(numbers: Iterable[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers) or "-"
