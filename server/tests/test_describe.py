import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sigmax_server.describe import describe
from sigmax_server.device import Choice
from sigmax_server.graph import ContradictionError
from sigmax_server.model_spec import Head, ModelSpec, Placement, TensorSpec
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
    any_rank: bool = False
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


def described(opened: Graph, **parameters: str) -> ModelSpec:
    """The description of a graph whose configuration has these `sigmax.*` parameters."""
    texts = {f"sigmax.{key}": {"string_value": value} for key, value in parameters.items()}
    config = {"parameters": texts} if texts else {}
    return describe(opened, replace(FOUND, config=config), 1024, CPU)


def head(opened: Graph, **parameters: str) -> Head:
    """The only head of a graph."""
    (only,) = described(opened, **parameters).heads
    return only


def refused(opened: Graph) -> str:
    with pytest.raises(ContradictionError) as caught:
        described(opened)
    return str(caught.value)


def test_a_bare_file_is_served_raw() -> None:
    opened = graph()
    opened.metadata = {"producer": "another"}
    spec = described(opened)
    assert (spec.name, spec.version, spec.max_batch_size) == ("animal", 3, 1024)
    assert (spec.heads, spec.golden) == ((), ("test_data_set_0",))
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
    assert spec.heads == (Head(name="", output=0, task="multiclass", labels=labels),)
    assert spec.tolerance == 1e-6
    assert spec.inputs[0].meaning == "six measured traits"
    assert spec.outputs[0].labels == labels


@pytest.mark.parametrize("output", [(-1, 1), (-1,), (-1, -1)])
def test_binary_outputs(output: Sequence[int]) -> None:
    binary = head(graph(output, task="binary", labels=["no", "yes"], thresholds=[0.25]))
    assert (binary.labels, binary.thresholds) == (("no", "yes"), (0.25,))


def test_thresholds_are_a_half_where_the_file_has_none() -> None:
    assert head(graph((-1, 1), task="binary")).thresholds == (0.5,)
    assert head(graph((-1, 3), task="multilabel")).thresholds == (0.5, 0.5, 0.5)
    assert head(graph((-1, -1), task="multilabel", labels=["a", "b"])).thresholds == (0.5,) * 2
    assert head(graph((-1, 3), task="multiclass")).thresholds == ()


def test_classes_that_the_graph_leaves_open_are_told_by_the_labels() -> None:
    opened = graph((-1, -1), task="multiclass", labels=["a", "b", "c", "d"])
    assert head(opened).labels == ("a", "b", "c", "d")


@pytest.mark.parametrize("dtype", ["FP16", "BF16", "FP32", "FP64"])
def test_probabilities_of_every_floating_type_are_classified(dtype: "DType") -> None:
    assert head(graph(dtype=dtype, task="multiclass")).task == "multiclass"


def test_the_first_output_is_classified_unless_another_is_named() -> None:
    opened = graph(task="multiclass", labels=["a", "b", "c"])
    opened.outputs.append(Tensor("embedding", "INT8", [-1, 64]))
    assert head(opened).labels == ("a", "b", "c")
    opened.outputs.reverse()
    opened.metadata["sigmax.output"] = "probabilities"
    assert head(opened).output == 1


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
                "sigmax.task is binary: expected an output of one probability a row, "
                "[-1, 1] or [-1], got 'probabilities' FP32[-1, 2]"
            ),
        ),
        (
            graph((-1, 1, 2), task="binary"),
            (
                "sigmax.task is binary: expected an output of one probability a row, "
                "[-1, 1] or [-1], got 'probabilities' FP32[-1, 1, 2]"
            ),
        ),
        (
            graph((-1, 4, 3), task="multilabel"),
            (
                "sigmax.task is multilabel: expected an output of one probability a class, "
                "[-1, classes], got 'probabilities' FP32[-1, 4, 3]"
            ),
        ),
        (
            graph((-1, 1), task="multiclass"),
            (
                "sigmax.task is multiclass: expected an output of one probability a class, "
                "[-1, classes], got 'probabilities' FP32[-1, 1]"
            ),
        ),
        (
            graph(dtype="INT64", task="multiclass"),
            (
                "sigmax.task is multiclass: expected an output of floating-point numbers, "
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
            "sigmax.labels: there is no sigmax.task whose 3 classes they name",
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
            "sigmax.task is multilabel: expected thresholds in [0, 1], got 1.5",
        ),
        (graph(tolerance=-1), "expected a finite tolerance of 0 or more, got -1.0"),
        (
            graph(task="multiclass", labels=["a", "b", ""]),
            "sigmax.task is multiclass: expected labels that are not empty, at 2, got ''",
        ),
    ],
)
def test_a_contradiction_names_both_sides(opened: Graph, problem: str) -> None:
    assert refused(opened) == problem


def test_a_configuration_may_state_the_format() -> None:
    opened = graph(task="multiclass")
    del opened.metadata["sigmax.format"]
    assert head(opened, format="1").task == "multiclass"
    with pytest.raises(ContradictionError, match=r"sigmax\.format: expected 1, got 2"):
        described(graph(task="multiclass"), format="2")


@pytest.mark.parametrize(("labels", "line"), [((), 1), (("a", "", "c"), 2)])
def test_a_label_file_without_a_name_in_each_line_is_named(
    labels: tuple[str, ...], line: int
) -> None:
    output = {"name": "probabilities", "label_filename": "labels.txt"}
    found = replace(FOUND, config={"output": [output]}, labels={"probabilities": labels})
    with pytest.raises(ContradictionError) as caught:
        describe(graph(task="multiclass"), found, 1024, CPU)
    assert str(caught.value) == (
        f"labels in labels.txt: expected a name in each line, got none in line {line}"
    )


def test_metadata_without_a_format_is_refused() -> None:
    opened = graph(task="multiclass")
    del opened.metadata["sigmax.format"]
    assert refused(opened) == "sigmax.format: expected 1, got none"


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("labels", "a,b,c", "expected a JSON list of strings such as"),
        ("rows_independent", "True", "expected true or false, got 'True'"),
        ("labels", '{"0": "a"}', 'expected a JSON list of strings, got {"0": "a"}'),
        ("labels", "[1, 2, 3]", "expected a JSON list of strings, got [1, 2, 3]"),
        ("thresholds", "0.5", "expected a JSON list of numbers, got 0.5"),
        ("thresholds", "[true]", "expected a JSON list of numbers, got [true]"),
        ("inputs", '["traits"]', 'expected a JSON object, got ["traits"]'),
        ("rows_independent", '"yes"', 'expected true or false, got "yes"'),
        ("tolerance", "small", "expected a number, got 'small'"),
        ("tolerance", '"1e-5"', 'expected a number, got "1e-5"'),
    ],
)
def test_malformed_metadata_is_quoted(key: str, text: str, expected: str) -> None:
    opened = graph((-1, 3), task="multilabel")
    opened.metadata[f"sigmax.{key}"] = text
    assert re.match(re.escape(f"sigmax.{key}: {expected}"), refused(opened))


HEADS: list[dict[str, Any]] = [
    {"name": "kind", "output": "kinds", "task": "multiclass", "labels": ["a", "b", "c"]},
    {"name": "alive", "output": "life", "task": "binary", "thresholds": [0.3]},
]


def several(heads: object, **stated: Any) -> Graph:
    opened = graph(heads=heads, **stated)
    opened.outputs = [Tensor("life", "FP32", [-1, 1]), Tensor("kinds", "FP32", [-1, 3])]
    return opened


def test_several_heads_are_taken_in_their_order() -> None:
    spec = described(several(HEADS))
    assert spec.heads == (
        Head(name="kind", output=1, task="multiclass", labels=("a", "b", "c")),
        Head(name="alive", output=0, task="binary", thresholds=(0.3,)),
    )
    assert [output.labels for output in spec.outputs] == [(), ("a", "b", "c")]


@pytest.mark.parametrize(
    ("heads", "problem"),
    [
        ([], "sigmax.heads: expected a JSON list of 1 to 64 heads, got []"),
        ([HEADS[0]] * 65, "sigmax.heads: expected a JSON list of 1 to 64 heads, got "),
        ({"name": "kind"}, "sigmax.heads: expected a JSON list of 1 to 64 heads, got "),
        ([HEADS[0]] * 2, "sigmax.heads: expected different names, got 'kind' twice"),
        (["kind"], 'sigmax.heads[0]: expected a JSON object, got "kind"'),
        ([{**HEADS[0], "name": ""}], 'sigmax.heads[0].name: expected a name, got ""'),
        ([{**HEADS[0], "label": []}], "sigmax.heads[0]: expected members name, output, task, "),
        (
            [HEADS[0], {"name": "x", "task": "fish"}],
            "sigmax.heads[1].task: expected binary, multiclass or multilabel, got 'fish'",
        ),
        (
            [{**HEADS[0], "output": "fish"}],
            "sigmax.heads[0].output: expected one of the graph's outputs, life, kinds; got 'fish'",
        ),
        (
            [{**HEADS[0], "labels": ["a"]}],
            "sigmax.heads[0].labels: expected 3, because sigmax.heads[0].task is multiclass",
        ),
        (
            [{**HEADS[1], "thresholds": [2]}],
            "sigmax.heads[0].task is binary: expected thresholds in [0, 1], got 2.0",
        ),
        ([{**HEADS[0], "labels": 3}], "sigmax.heads[0].labels: expected a JSON list of strings"),
    ],
)
def test_a_head_that_is_wrong_is_told_with_its_place(heads: object, problem: str) -> None:
    assert refused(several(heads)).startswith(problem)


def test_heads_and_a_task_are_not_stated_together() -> None:
    problem = "sigmax.heads: expected it without sigmax.task, because each head has its own"
    assert refused(several(HEADS, task="binary")) == problem


def test_the_first_output_may_not_be_the_probabilities() -> None:
    opened = several(HEADS)
    opened.outputs = [Tensor("label", "INT64", [-1]), Tensor("probabilities", "FP32", [-1, 3])]
    opened.metadata = {"sigmax.format": "1", "sigmax.task": "multiclass"}
    assert refused(opened).endswith("; sigmax.output can name another: probabilities")
    opened.metadata["sigmax.output"] = "probabilities"
    assert head(opened).output == 1


def test_the_configuration_states_what_the_file_does_not() -> None:
    bare = graph((-1, 1))
    made = head(bare, task="binary", labels='["no", "yes"]', thresholds="[0.25]")
    assert (made.labels, made.thresholds) == (("no", "yes"), (0.25,))
    own = graph((-1, 1), task="binary", thresholds=[0.5])
    assert head(own, thresholds="[0.75]").thresholds == (0.75,)
    assert described(own, rows_independent="true").rows_independent is True
    with pytest.raises(
        ContradictionError, match=r"expected one of sigmax\.format, .* got 'sigmax\.tsk'"
    ):
        described(bare, tsk="binary")


def test_two_classes_of_one_name_are_a_warning() -> None:
    spec = described(graph(task="multiclass", labels=["crane", "maillot", "crane"]))
    assert spec.warnings == (
        "classes share the labels ['crane']: only their indices tell them apart",
    )


def test_an_input_says_how_its_text_is_encoded() -> None:
    opened = graph(inputs={"traits": {"meaning": "a name", "encoding": "utf-8"}})
    opened.inputs[0] = Tensor("traits", "UINT8", [-1, 64])
    (text,) = described(opened).inputs
    assert (text.meaning, text.encoding) == ("a name", "utf-8")
    opened.inputs[0] = Tensor("traits", "UINT8", [-1, -1])
    assert refused(opened).startswith(
        "sigmax.inputs['traits'].encoding is utf-8: expected an input"
    )
    for value, problem in (
        (6, "expected a string or a JSON object of strings, got 6"),
        ({"encoding": "latin-1"}, "encoding: expected utf-8, got 'latin-1'"),
        ({"unit": "cm"}, "expected meaning or encoding, got 'unit'"),
    ):
        assert problem in refused(graph(inputs={"traits": value}))


def test_a_graph_without_a_shape_has_no_batch_axis_unless_the_configuration_says_so() -> None:
    opened = graph()
    opened.inputs[0] = Tensor("traits", "FP32", [], any_rank=True)
    spec = described(opened)
    assert (spec.max_batch_size, spec.inputs[0].any_rank) == (0, True)
    config = {"max_batch_size": 8, "input": [{"name": "traits", "dims": [6]}]}
    spec = describe(opened, replace(FOUND, config=config), 1024, CPU)
    assert (spec.inputs[0].dims, spec.inputs[0].any_rank) == ((-1, 6), False)
    config = {"max_batch_size": 8}
    with pytest.raises(ContradictionError, match="expected dims beside max_batch_size"):
        describe(opened, replace(FOUND, config=config), 1024, CPU)
