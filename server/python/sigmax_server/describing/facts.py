"""What `sigmax describe` prints of a model file."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import ModelProto, TypeProto, ValueInfoProto

from sigmax_server.describing import golden
from sigmax_server.describing.trial import Tried
from sigmax_server.model_spec import Head
from sigmax_server.text import cut, plain

Facts = list[tuple[str, str]]
_SHOWN = 8  # most labels or thresholds that a line shows


def of_file(file: Path, model: ModelProto) -> Facts:
    """Return what the file itself says: its tensors, its operators and its metadata."""
    opsets = ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in model.opset_import)
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    stated = [each for each in model.metadata_props if each.key.startswith("sigmax.")]
    return [
        ("file", str(file)),
        ("operators", opsets),
        *([("made by", producer)] if producer else []),
        *(("input", _tensor(each)) for each in golden.inputs(model)),
        *(("output", _tensor(each)) for each in model.graph.output),
        *(("states", f"{each.key} = {cut(each.value, 160)}") for each in stated),
    ]


def of_service(tried: Tried) -> Facts:
    """Return how a server would serve the model, and what it lacks."""
    spec, report = tried.spec, tried.report
    is_one_row = all(each.dims[:1] == (1,) for each in spec.inputs)
    rows = f"up to {spec.max_batch_size} rows a request" if spec.max_batch_size else "no batch axis"
    if is_one_row and not spec.max_batch_size:
        rows = "one row a request; more by max_batch_size in config.pbtxt, run one by one"
    independent = "rows share batches" if report.rows_independent else "each request runs alone"
    return [
        *(("serves", _head(head, spec.outputs[head.output].name)) for head in spec.heads),
        *([] if spec.heads else [("serves", "raw outputs, without a task: Classify is refused")]),
        ("batches", f"{rows}; {independent}"),
        *(("warning", warning) for warning in report.warnings),
        *(("missing", text) for text in _missing(tried)),
    ]


def lines(facts: Facts) -> str:
    """Return the facts as lines of two aligned columns."""
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"{name.ljust(width)}  {plain(text)}" for name, text in facts)


def _missing(tried: Tried) -> Iterator[str]:
    if not tried.spec.heads:
        yield "a task: --task binary, multiclass or multilabel"
    for head in tried.spec.heads:
        if not head.labels:
            yield (
                f"names of the classes of the head {head.name}: labels in the file of --heads"
                if head.name
                else "names of the classes: --labels or --labels-file"
            )
    if not tried.spec.golden:
        yield "golden samples, by which every server checks its answers: --golden rows.npz"


def _head(head: Head, output: str) -> str:
    name = f"head {head.name}: " if head.name else ""
    labels = f"; labels {_few(head.labels)}" if head.labels else ""
    thresholds = f"; thresholds {_few([f'{t:g}' for t in head.thresholds])}"
    return f"{name}{head.task} from {output}{labels}{thresholds if head.thresholds else ''}"


def _few(words: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _tensor(value: ValueInfoProto) -> str:
    return f"{value.name} {_kind(value.type)}"


def _kind(kind: TypeProto) -> str:
    if kind.HasField("sequence_type"):
        return f"sequence of {_kind(kind.sequence_type.elem_type)}"
    if kind.HasField("map_type"):
        return f"map to {_kind(kind.map_type.value_type)}"
    if not kind.HasField("tensor_type"):
        return "of another kind than a tensor"
    tensor = kind.tensor_type
    element = onnx.TensorProto.DataType.Name(tensor.elem_type)
    if not tensor.HasField("shape"):
        return f"{element}, of any shape"
    sizes = [
        each.dim_param or (str(each.dim_value) if each.HasField("dim_value") else "?")
        for each in tensor.shape.dim
    ]
    return f"{element}[{', '.join(sizes)}]"
