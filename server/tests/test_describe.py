import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sigmax_server.config import ModelSpec, Placement, TensorSpec
from sigmax_server.describe import describe
from sigmax_server.device import Choice
from sigmax_server.graph import ContradictionError
from sigmax_server.repository import Found

if TYPE_CHECKING:
    from sigmax_server._native import DType

CPU = Choice(((Placement("cpu"),),), "")
FOUND = Found("animal", 3, Path("animal"), Path("m.onnx"), (Path("test_data_set_0"),))


@dataclass
class Tensor:
    name: str
    dtype: "DType"
    dims: Sequence[int]
    optional: bool = False


@dataclass
class Graph:
    """What a model file shows once it is open."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def graph(output: Sequence[int] = (-1, 3), dtype: "DType" = "FP32", **stated: object) -> Graph:
    """A graph with metadata; strings are written as they are, everything else as JSON."""
    metadata = {
        f"sigmax.{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in stated.items()
    }
    if metadata:
        metadata = {"sigmax.format": "1", **metadata}
    return Graph(
        [Tensor("traits", "FP32", [-1, 6])], [Tensor("probabilities", dtype, output)], metadata
    )


def described(opened: Graph) -> ModelSpec:
    return describe(opened, FOUND, 1024, CPU)


def refused(opened: Graph) -> str:
    with pytest.raises(ContradictionError) as caught:
        described(opened)
    return str(caught.value)


def test_a_bare_file_is_served_raw() -> None:
    opened = graph()
    opened.metadata = {"producer": "another"}
    spec = described(opened)
    assert (spec.name, spec.version, spec.max_batch_size) == ("animal", 3, 1024)
    assert (spec.task, spec.labels, spec.golden) == (None, (), ("test_data_set_0",))
    assert spec.inputs == (TensorSpec(name="traits", dtype="FP32", dims=(-1, 6)),)
    assert spec.tolerance == 1e-5


def test_everything_a_file_states_is_taken() -> None:
    spec = described(
        graph(
            task="multiclass",
            labels=["bird", "mammal", "reptile"],
            inputs={"traits": "six measured traits"},
            tolerance="1e-06",
            producer="torch 2",
        )
    )
    labels = ("bird", "mammal", "reptile")
    assert (spec.task, spec.labels, spec.tolerance) == ("multiclass", labels, 1e-6)
    assert spec.inputs[0].meaning == "six measured traits"
    assert spec.outputs[0].labels == labels


@pytest.mark.parametrize("output", [(-1, 1), (-1,), (-1, -1)])
def test_binary_outputs(output: Sequence[int]) -> None:
    spec = described(graph(output, task="binary", labels=["no", "yes"], thresholds=[0.25]))
    assert (spec.labels, spec.thresholds) == (("no", "yes"), (0.25,))


def test_thresholds_are_a_half_where_the_file_has_none() -> None:
    assert described(graph((-1, 1), task="binary")).thresholds == (0.5,)
    assert described(graph((-1, 3), task="multilabel")).thresholds == (0.5, 0.5, 0.5)
    assert described(graph((-1, -1), task="multilabel", labels=["a", "b"])).thresholds == (0.5,) * 2
    assert described(graph((-1, 3), task="multiclass")).thresholds == ()


def test_classes_that_the_graph_leaves_open_are_told_by_the_labels() -> None:
    spec = described(graph((-1, -1), task="multiclass", labels=["a", "b", "c", "d"]))
    assert spec.labels == ("a", "b", "c", "d")


@pytest.mark.parametrize("dtype", ["FP16", "BF16", "FP32", "FP64"])
def test_probabilities_of_every_floating_type_are_classified(dtype: "DType") -> None:
    assert described(graph(dtype=dtype, task="multiclass")).task == "multiclass"


def test_only_the_first_output_is_classified() -> None:
    opened = graph(task="multiclass", labels=["a", "b", "c"])
    opened.outputs.append(Tensor("embedding", "INT8", [-1, 64]))
    assert described(opened).labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("inputs", "output"), [([6], (3,)), ([-1, 6], (1, 3)), ([1, 6], (-1, 3)), ([], (-1, 3))]
)
def test_a_graph_without_a_batch_axis_is_served_unbatched(
    inputs: list[int], output: Sequence[int]
) -> None:
    opened = graph(output, task="multiclass", labels=["a", "b", "c"])
    opened.inputs[0].dims = inputs
    assert described(opened).max_batch_size == 0


def test_labels_are_compared_without_a_batch_axis_too() -> None:
    opened = graph((3,), task="multiclass", labels=["a", "b"])
    assert "expected 3" in refused(opened)


@pytest.mark.parametrize(
    ("opened", "problem"),
    [
        (
            graph(task="multiclass", labels=["a", "b"]),
            (
                "sigmax.labels: expected 3, because sigmax.task is multiclass and the output is "
                "'probabilities' FP32[-1, 3], got 2"
            ),
        ),
        (
            graph((-1, 1), task="binary", labels=["a", "b", "c"]),
            (
                "sigmax.labels: expected 2, because sigmax.task is binary and the output is "
                "'probabilities' FP32[-1, 1], got 3"
            ),
        ),
        (
            graph((-1, 2), task="binary"),
            (
                "sigmax.task is binary: expected a first output of one probability a row, "
                "[-1, 1] or [-1], got 'probabilities' FP32[-1, 2]"
            ),
        ),
        (
            graph((-1, 1, 1), task="binary"),
            (
                "sigmax.task is binary: expected a first output of one probability a row, "
                "[-1, 1] or [-1], got 'probabilities' FP32[-1, 1, 1]"
            ),
        ),
        (
            graph((-1, 4, 3), task="multilabel"),
            (
                "sigmax.task is multilabel: expected a first output of one probability a class, "
                "[-1, classes], got 'probabilities' FP32[-1, 4, 3]"
            ),
        ),
        (
            graph((-1, 1), task="multiclass"),
            (
                "sigmax.task is multiclass: expected a first output of one probability a class, "
                "[-1, classes], got 'probabilities' FP32[-1, 1]"
            ),
        ),
        (
            graph(dtype="INT64", task="multiclass"),
            (
                "sigmax.task is multiclass: expected a first output of floating-point numbers, "
                "got 'probabilities' INT64[-1, 3]"
            ),
        ),
        (
            graph(task="multilabel", thresholds=[0.5]),
            "sigmax.thresholds: expected 3 because sigmax.task is multilabel, got 1",
        ),
        (
            graph((-1, 1), task="binary", thresholds=[]),
            "sigmax.thresholds: expected 1 because sigmax.task is binary, got 0",
        ),
        (
            graph(task="multiclass", thresholds=[0.5]),
            "sigmax.thresholds: expected none, because sigmax.task is multiclass, got 1",
        ),
        (
            graph(thresholds=[0.5]),
            "sigmax.thresholds: expected none, because sigmax.task is absent, got 1",
        ),
        (
            graph(labels=["a", "b", "c"]),
            "sigmax.labels: there is no sigmax.task whose classes they name",
        ),
        (
            graph((-1, -1), task="multilabel"),
            (
                "sigmax.task is multilabel: expected labels, thresholds or an output that tell the "
                "number of classes, got none of them"
            ),
        ),
        (
            graph(task="regression"),
            "sigmax.task: expected binary, multiclass or multilabel, got 'regression'",
        ),
        (graph(task="multiclass", format="2"), "sigmax.format: expected 1, got 2"),
        (
            graph(inputs={"traits": "six", "x": "one"}),
            "sigmax.inputs: expected the graph's inputs, traits, got 'x'",
        ),
        (
            graph(task="multilabel", thresholds=[0.1, 0.2, 1.5]),
            "expected thresholds in [0, 1], got 1.5",
        ),
        (graph(tolerance=-1), "expected a finite tolerance of 0 or more, got -1.0"),
        (
            graph(task="multiclass", labels=["a", "b", "a"]),
            "expected labels that differ, at 0 and 2, got 'a'",
        ),
    ],
)
def test_a_contradiction_names_both_sides(opened: Graph, problem: str) -> None:
    assert refused(opened) == problem


def test_metadata_without_a_format_is_refused() -> None:
    opened = graph(task="multiclass")
    del opened.metadata["sigmax.format"]
    assert refused(opened) == "sigmax.format: expected 1, got none"


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("labels", "a,b,c", "expected JSON, got 'a,b,c'"),
        ("labels", '{"0": "a"}', 'expected a JSON list of strings, got {"0": "a"}'),
        ("labels", "[1, 2, 3]", "expected a JSON list of strings, got [1, 2, 3]"),
        ("thresholds", "0.5", "expected a JSON list of numbers, got 0.5"),
        ("thresholds", "[true]", "expected a JSON list of numbers, got [true]"),
        ("inputs", '["traits"]', 'expected a JSON object of strings, got ["traits"]'),
        ("inputs", '{"traits": 6}', 'expected a JSON object of strings, got {"traits": 6}'),
        ("tolerance", "small", "expected JSON, got 'small'"),
        ("tolerance", '"1e-5"', 'expected a number, got "1e-5"'),
    ],
)
def test_malformed_metadata_is_quoted(key: str, text: str, expected: str) -> None:
    opened = graph((-1, 3), task="multilabel")
    opened.metadata[f"sigmax.{key}"] = text
    assert re.match(re.escape(f"sigmax.{key}: {expected}"), refused(opened))
