"""Models are held to what their files promise, before they serve and at every answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node
from support import files
from support.server import Server
from support.wire import Tensor, classify, infer, refusal

PLAIN = [files.tensor("x", "FP32", "batch", 3)], [files.tensor("p", "FP32", "batch", 3)]
SOFTMAX = "; where the output holds raw scores, `sigmax describe --activation softmax`"
SIGMOID = "; where the output holds raw scores, `sigmax describe --activation sigmoid`"


def identity(task: str, **stated: Any) -> onnx.ModelProto:
    """Answer rows of three numbers with themselves."""
    return files.graph([make_node("Identity", ["x"], ["p"])], *PLAIN, task=task, **stated)


def flattened(**stated: Any) -> onnx.ModelProto:
    """Answer each row of five numbers with five rows."""
    nodes = [make_node("Sigmoid", ["x"], ["s"]), make_node("Reshape", ["s", "shape"], ["p"])]
    shapes = [files.tensor("x", "FP32", "batch", 5)], [files.tensor("p", "FP32", "rows", 1)]
    return files.graph(nodes, *shapes, {"shape": np.array([-1, 1])}, **stated)


def shortened() -> onnx.ModelProto:
    """Leave out the first row of every batch."""
    ends = {"first": np.array([1]), "last": np.array([2**31])}
    nodes = [
        make_node("Softmax", ["x"], ["s"], axis=-1),
        make_node("Slice", ["s", "first", "last"], ["p"]),
    ]
    shapes = [files.tensor("x", "FP32", "batch", 3)], [files.tensor("p", "FP32", "rows", 3)]
    return files.graph(nodes, *shapes, ends, task="multiclass")


def picky() -> onnx.ModelProto:
    """Leave out the rows whose numbers are large."""
    nodes = [
        make_node("Softmax", ["x"], ["s"], axis=-1),
        make_node("ReduceMax", ["x", "axis"], ["most"], keepdims=0),
        make_node("Less", ["most", "limit"], ["kept"]),
        make_node("Compress", ["s", "kept"], ["p"], axis=0),
    ]
    weights = {"axis": np.array([1]), "limit": np.array(1000, np.float32)}
    shapes = [files.tensor("x", "FP32", "batch", 3)], [files.tensor("p", "FP32", "rows", 3)]
    return files.graph(nodes, *shapes, weights, task="multiclass")


def normalized(**stated: Any) -> onnx.ModelProto:
    """Normalize by the batch itself, as a BatchNorm that was left in training mode does."""
    weights = {name: np.ones(3, np.float32) for name in ("scale", "mean", "var")}
    weights["bias"] = np.zeros(3, np.float32)
    nodes = [
        make_node(
            "BatchNormalization",
            ["x", "scale", "bias", "mean", "var"],
            ["n", "m", "v"],
            training_mode=1,
        ),
        make_node("Sigmoid", ["n"], ["p"]),
    ]
    return files.graph(nodes, *PLAIN, weights, task="multilabel", **stated)


def with_label(output: onnx.ValueInfoProto, *nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Answer with probabilities and another output, which nodes make of the input or of `ones`."""
    softmax = make_node("Softmax", ["x"], ["p"], axis=-1)
    inputs, outputs = PLAIN
    ones = {"ones": np.ones(1, np.int64)}
    return files.graph([softmax, *nodes], inputs, [*outputs, output], ones, task="multiclass")


def noisy() -> onnx.ModelProto:
    """Answer with random probabilities, as a dropout that was left in training mode does."""
    return files.graph([make_node("RandomUniformLike", ["x"], ["p"])], *PLAIN, task="multilabel")


def softmax_of_the_batch() -> onnx.ModelProto:
    nodes = [make_node("Softmax", ["x"], ["p"], axis=0)]
    return files.graph(nodes, *PLAIN, task="multiclass")


def scaled(factor: float) -> onnx.ModelProto:
    """Multiply by a number, without a task."""
    weights = {"factor": np.array(factor, np.float32)}
    return files.graph([make_node("Mul", ["x", "factor"], ["p"])], *PLAIN, weights)


def halves() -> onnx.ModelProto:
    nodes = [make_node("Identity", ["x"], ["p"])]
    shapes = [files.tensor("x", "FP16", "batch", 3)], [files.tensor("p", "FP16", "batch", 3)]
    return files.graph(nodes, *shapes)


def shapeless(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Make a graph whose input and output have no shape."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xp"]
    return files.graph(nodes, values[:1], values[1:])


def refuses_small_indices() -> onnx.ModelProto:
    """Look up rows 1,000 to 1,003 of a table: no generated index is so large."""
    nodes = [
        make_node("Sub", ["x", "first"], ["index"]),
        make_node("Gather", ["table", "index"], ["s"]),
        make_node("Softmax", ["s"], ["p"], axis=-1),
    ]
    weights = {"first": np.array(1000), "table": np.eye(4, dtype=np.float32)}
    shapes = [files.tensor("x", "INT64", "batch")], [files.tensor("p", "FP32", "batch", 4)]
    return files.graph(nodes, *shapes, weights, task="multiclass")


def four() -> onnx.ModelProto:
    """Return the softmax of exactly four rows."""
    shapes = [files.tensor("x", "FP32", 4, 3)], [files.tensor("p", "FP32", 4, 3)]
    return files.graph([make_node("Softmax", ["x"], ["p"], axis=-1)], *shapes, task="multiclass")


def of_two_heads() -> onnx.ModelProto:
    """Return probabilities, and as another head's what are none."""
    nodes = [make_node("Softmax", ["x"], ["p"], axis=-1), make_node("Identity", ["x"], ["s"])]
    heads = [
        {"name": "kind", "output": "p", "task": "multiclass"},
        {"name": "traits", "output": "s", "task": "multilabel"},
    ]
    outputs = [*PLAIN[1], files.tensor("s", "FP32", "batch", 3)]
    return files.graph(nodes, PLAIN[0], outputs, heads=heads)


REFUSED = {
    "heads": (
        of_two_heads(),
        "the task of the head 'traits' is multilabel: output 's' of a generated row, row 0",
        "where real rows are answered rightly, add a golden sample of some",
    ),
    "logits": (identity("multiclass"), "expected a probability in [0, 1], got", SOFTMAX),
    "scores": (identity("multilabel"), "expected a probability in [0, 1], got", SIGMOID),
    "flattened": (
        flattened(task="binary"),
        "output 'p' of a generated row, expected 1 row, got",
        "[5, 1]",
    ),
    "shortened": (shortened(), "output 'p' of a generated row, expected 1 row, got", "[0, 3]"),
    "batch-softmax": (softmax_of_the_batch(), "got the sum 3.0000", "another axis"),
    "zipped": (files.zipped(), "expected a tensor, got", "`sigmax describe` takes out the ZipMap"),
}
SERVED = {
    "four": four(),
    "raw": flattened(),
    "picky": picky(),
    "normalized": normalized(),
    "noisy": noisy(),
    "independent": normalized(rows_independent=True),
    "dependent": identity("multilabel", rows_independent=False),
    "shapeless": shapeless(make_node("Relu", ["x"], ["p"])),
    # onnxmltools says so of a label for each row.
    "mislabelled": with_label(
        files.tensor("label", "INT64", 1), make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)
    ),
    "one-label": with_label(
        files.tensor("label", "INT64", 1), make_node("Identity", ["ones"], ["label"])
    ),
    "untried": refuses_small_indices(),
    "labels": identity("multiclass", labels=["crane", "maillot", "crane"]),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("promises")
    for name, (model, *_) in REFUSED.items():
        files.save(model, folder, name)
    for name, model in SERVED.items():
        path = files.save(model, folder, name)
        if name in ("dependent", "labels"):
            row = np.array([[0.25, 0.5, 0.25]], np.float32)
            files.save_golden(path, row, row)
    # One unit in the last place of a number near 500 is 3.1e-5.
    large = np.array([[500, 250, 125]], np.float32)
    near, off = np.nextafter(large, np.float32(1e9)), large + np.float32(0.1)
    files.save_golden(files.save(scaled(1.0), folder, "near"), large, near)
    files.save_golden(files.save(scaled(1.0), folder, "off"), large, off)
    half = np.array([[0.5, 250, 1]], np.float16)
    rounded = np.nextafter(half, np.float16(1e4))
    files.save_golden(files.save(halves(), folder, "half"), half, rounded)
    shape = 'input [ { name: "x" dims: [ 3 ] } ]'
    files.configured(folder, "shaped", SERVED["shapeless"], f"max_batch_size: 8 {shape}")
    with Server(tmp_path_factory.mktemp("log") / "log", folder, "--shards=1") as server:
        yield server


def state(server: Server, model: str) -> tuple[str, str]:
    [summary] = [each for each in server.client.models() if each.name == model]
    return summary.versions[0].state, summary.versions[0].reason


def warnings(server: Server, model: str) -> str:
    """Return the lines that the start has printed of a model below the table."""
    lines = server.printed.splitlines()
    return "\n".join(line for line in lines if line.startswith(f"{model}: "))


@pytest.mark.parametrize("model", REFUSED)
def test_a_model_that_breaks_its_promise_does_not_serve(served: Server, model: str) -> None:
    _, problem, cure = REFUSED[model]
    found, reason = state(served, model)
    assert found == "unavailable"
    assert problem in reason
    assert cure in reason


def test_an_answer_with_fewer_rows_is_an_error(served: Server) -> None:
    small = Tensor.of("x", [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert len(classify(served, "picky", small).rows) == 2
    large = Tensor.of("x", [[1.0, 2.0, 3.0], [3000.0, 2.0, 1.0]])
    lost = refusal(lambda: classify(served, "picky", large))
    assert (lost.code, lost.reason) == ("INTERNAL", "ROWS_LOST")
    assert "gives another number of rows than the 2 of the request" in lost.message
    served.until_logged("expected 2 rows, got the shape [1, 3]")
    lost = refusal(lambda: infer(served, "picky", large))
    assert (lost.code, lost.reason) == ("INTERNAL", "ROWS_LOST")
    assert len(classify(served, "picky", small).rows) == 2


@pytest.mark.parametrize(
    ("model", "row", "detail"),
    [
        ("dependent", [0.5, 1.5, 0.5], "class 1: expected a probability in [0, 1], got 1.5"),
        ("dependent", [0.5, 0.5, -0.1], "class 2: expected a probability in [0, 1], got -0.1"),
        ("labels", [0.5, 0.5, 0.5], "expected probabilities with the sum 1, got the sum 1.5000"),
    ],
)
def test_an_answer_that_is_no_probability_is_an_error(
    served: Server, model: str, row: list[float], detail: str
) -> None:
    rows = Tensor.of("x", [[0.25, 0.5, 0.25], row])
    found = refusal(lambda: classify(served, model, rows))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "NO_PROBABILITY")
    problem = f"model '{model}' gives no probabilities: output 'p', row 1"
    assert found.message.startswith(problem)
    assert detail in found.message
    assert list(found.fields) == ["inputs[x]"]
    assert len(classify(served, model, Tensor.of("x", [[0.25, 0.5, 0.25]])).rows) == 1


def test_golden_samples_prove_more_than_generated_rows(served: Server) -> None:
    said = warnings(served, "labels")
    assert "output 'p' of a generated row, row 0, class 1: expected a probability in [0, 1]" in said
    assert "it serves, because its golden samples keep the promise" in said


def test_a_task_without_rows_is_told(served: Server) -> None:
    assert state(served, "four") == ("ready", "")
    said = warnings(served, "four")
    assert "Classify is refused, because the model has no rows: 'x' FP32[4, 3]; expected" in said
    lost = refusal(lambda: classify(served, "four", Tensor.of("x", np.ones((4, 3)))))
    assert "has no batch axis" in lost.message


def test_a_sum_may_be_off_by_rounding(served: Server) -> None:
    reply = classify(served, "labels", Tensor.of("x", [[0.3333, 0.3333, 0.3333]]))
    assert reply.rows[0].decision[0].label == "crane"
    assert "classes share the labels ['crane']" in warnings(served, "labels")


def test_rows_that_depend_on_each_other_are_said_with_the_difference(served: Server) -> None:
    assert served.client.model("normalized").rows_independent is False
    said = warnings(served, "normalized")
    assert "rows depend on each other: in a batch of" in said
    assert "differs by up to" in said
    assert "each request runs in a batch of its own" in said
    served.until_logged("rows depend on each other")


@pytest.mark.parametrize(("model", "shares"), [("mislabelled", True), ("one-label", False)])
def test_an_output_of_one_beside_rows_may_have_rows(
    served: Server, model: str, shares: bool
) -> None:
    described = served.client.model(model)
    assert described.max_batch_size > 1
    assert described.rows_independent is shares
    rows = np.eye(3, dtype=np.float32)[[2, 0, 1]]
    assert [row.index for row in served.client.classify(model, rows)] == [2, 0, 1]


def test_rows_that_are_flattened_are_no_chance(served: Server) -> None:
    assert "rows depend on each other: a batch of 8 is not answered with a row" in warnings(
        served, "raw"
    )


def test_answers_that_change_are_said(served: Server) -> None:
    assert served.client.model("noisy").rows_independent is False
    assert "the same row is answered otherwise the second time, by up to" in warnings(
        served, "noisy"
    )


def test_the_author_has_the_last_word_on_independence(served: Server) -> None:
    assert served.client.model("independent").rows_independent is True
    said = warnings(served, "independent")
    assert "requests share batches all the same, for sigmax.rows_independent says so" in said
    assert served.client.model("dependent").rows_independent is False


def test_golden_samples_are_relative_above_1_and_as_precise_as_their_type(served: Server) -> None:
    assert state(served, "near") == ("ready", "")
    assert state(served, "half") == ("ready", "")
    found, reason = state(served, "off")
    assert found == "unavailable"
    assert "row 0: expected 500.1, got 500: a difference of 1.0e-1, of at most 5.0e-3" in reason


def test_an_input_without_a_shape_takes_any(served: Server) -> None:
    for shape in ((3,), (2, 3), (2, 1, 3)):
        given = Tensor.of("x", np.full(shape, -1.0))
        assert infer(served, "shapeless", given)[0].array.tolist() == np.zeros(shape).tolist()
        answer = served.client.infer("shapeless", np.full(shape, -1.0))
        assert answer["p"].shape == shape
    described = served.client.model("shapeless")
    assert (described.max_batch_size, described.inputs[0].any_rank) == (0, True)


def test_the_configuration_gives_a_shape_where_the_graph_has_none(served: Server) -> None:
    assert infer(served, "shaped", Tensor.of("x", [[-1.0, 2.0, 3.0]]))[0].shape == (1, 3)
    wrong = refusal(lambda: infer(served, "shaped", Tensor.of("x", [[1.0, 2.0]])))
    assert wrong.reason == "SHAPE_MISMATCH"


def test_a_model_of_which_no_row_ran_says_so(served: Server) -> None:
    found, reason = state(served, "untried")
    assert found == "ready"
    assert reason.startswith("not tried: ")
    assert "none of the rows tried in loading ran" in warnings(served, "untried")
    reply = classify(served, "untried", Tensor.of("x", [1002], np.int64))
    assert reply.rows[0].decision[0].index == 2


def test_a_model_without_a_shape_of_which_nothing_runs_is_refused(
    served: Server, tmp_path: Path
) -> None:
    # An index that is as large as the table has no place in it, whatever the shape.
    nodes = [make_node("Cast", ["x"], ["i"], to=TensorProto.INT64)]
    nodes += [make_node("Add", ["i", "far"], ["j"]), make_node("Gather", ["table", "j"], ["p"])]
    model = shapeless(*nodes)
    for name, values in (("far", np.array(100)), ("table", np.ones(3, np.float32))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    files.save(model, tmp_path, "lost")
    with Server(tmp_path / "log", tmp_path, "--shards=1") as server:
        found, reason = state(server, "lost")
    assert found == "unavailable"
    assert reason.startswith("input 'x' has no shape in the graph, and no shape that was tried")
    assert reason.endswith("state its dims in config.pbtxt, or add a golden sample")


def test_the_findings_are_in_the_description(served: Server) -> None:
    [warning] = served.client.model("normalized").warnings
    assert warning.startswith("rows depend on each other")
