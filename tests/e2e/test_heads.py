"""A model may have several heads, and its task may be about any output."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import sigmax
from onnx.helper import make_node
from support import files
from support.server import Server
from support.wire import Tensor, classify, infer, refusal

HEADS = [
    {"name": "kind", "output": "kinds", "task": "multiclass", "labels": ["a", "b", "c"]},
    {"name": "traits", "output": "traits", "task": "multilabel", "thresholds": [0.4, 0.5, 0.6]},
    {"name": "kind-again", "output": "kinds", "task": "multilabel"},
]
ROWS = [[3.0, 2.0, 1.0], [0.1, 0.0, -5.0]]


def two_outputs(**stated: Any) -> onnx.ModelProto:
    """Return whole numbers, the softmax of a row and the sigmoid of each number."""
    nodes = [
        make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        make_node("Softmax", ["x"], ["kinds"], axis=-1),
        make_node("Sigmoid", ["x"], ["traits"]),
    ]
    outputs = [
        files.tensor("label", "INT64", "batch"),
        files.tensor("kinds", "FP32", "batch", 3),
        files.tensor("traits", "FP32", "batch", 3),
    ]
    return files.graph(nodes, [files.tensor("x", "FP32", "batch", 3)], outputs, **stated)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("heads")
    files.save(two_outputs(heads=HEADS), folder, "several")
    files.save(two_outputs(task="multiclass", output="kinds"), folder, "second")
    files.save(two_outputs(task="multiclass"), folder, "first")
    text = """
        max_batch_size: 4
        output [ { name: "kinds" label_filename: "labels.txt" } ]
        parameters { key: "sigmax.task" value { string_value: "multiclass" } }
        parameters { key: "sigmax.output" value { string_value: "kinds" } }
    """
    files.configured(folder, "configured", two_outputs(), text)
    (folder / "configured/labels.txt").write_text("hen\nox\nfly\n")
    files.configured(folder, "one-row", one_row(), "")
    files.configured(folder, "row-by-row", one_row(), "max_batch_size: 4")
    files.save(pooled(1), folder, "pooled-row")
    files.save(pooled("batch"), folder, "pooled")
    with Server(tmp_path_factory.mktemp("log") / "log", folder, "--shards=1") as server:
        yield server


def one_row() -> onnx.ModelProto:
    """Return the softmax of exactly one row."""
    shapes = [files.tensor("x", "FP32", 1, 3)], [files.tensor("p", "FP32", 1, 3)]
    return files.graph([make_node("Softmax", ["x"], ["p"], axis=-1)], *shapes, task="multiclass")


def pooled(rows: int | str) -> onnx.ModelProto:
    """Return a softmax with two more axes of size 1, as a pooling over an image leaves them."""
    nodes = [
        make_node("Softmax", ["x"], ["s"], axis=-1),
        make_node("Unsqueeze", ["s", "axes"], ["p"]),
    ]
    shapes = [files.tensor("x", "FP32", rows, 3)], [files.tensor("p", "FP32", rows, 3, 1, 1)]
    axes = {"axes": np.array([2, 3])}
    return files.graph(nodes, *shapes, axes, task="multiclass", labels=["a", "b", "c"])


def test_a_request_asks_for_a_head_and_the_first_is_the_default(heads: Server) -> None:
    kinds, traits = (infer(heads, "several", Tensor.of("x", ROWS))[place].array for place in (1, 2))
    first = classify(heads, "several", Tensor.of("x", ROWS), return_probabilities=True)
    assert (first.head, first.probabilities.name) == ("kind", "kinds")
    assert [row.decision[0].label for row in first.rows] == ["a", "a"]
    assert first.rows[0].classes[0].probability == kinds[0, 0]
    second = heads.client.classify("several", ROWS, head="traits")
    assert second.head == "traits"
    assert [[it.index for it in row.decision] for row in second] == [[0, 1, 2], [0]]
    assert second[1].classes[0].probability == traits[1, 0]
    again = heads.client.classify("several", ROWS, head="kind-again")
    assert [[it.index for it in row.decision] for row in again] == [[0], [0]]


def test_a_head_that_there_is_not_is_named(heads: Server) -> None:
    found = refusal(lambda: classify(heads, "several", Tensor.of("x", ROWS), head="fish"))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "UNKNOWN_HEAD")
    assert (
        "model 'several' has the heads 'kind', 'traits', 'kind-again'; got 'fish'" in found.message
    )
    with pytest.raises(sigmax.InvalidInput, match="has no head with a name; got 'fish'"):
        heads.client.classify("second", ROWS, head="fish")


def test_the_description_has_all_heads(heads: Server) -> None:
    model = heads.client.model("several")
    assert [(head.name, head.output, head.task) for head in model.heads] == [
        ("kind", "kinds", "multiclass"),
        ("traits", "traits", "multilabel"),
        ("kind-again", "kinds", "multilabel"),
    ]
    assert (model.task, model.labels) == ("multiclass", ("a", "b", "c"))
    assert model.heads[1].thresholds == pytest.approx((0.4, 0.5, 0.6))
    assert model.heads[2].thresholds == (0.5, 0.5, 0.5)
    assert " multiclass, multilabel, multilabel " in heads.line("several")


def test_the_task_may_be_about_another_output(heads: Server) -> None:
    assert heads.client.classify("second", ROWS)[0].decision[0].index == 0
    [summary] = [each for each in heads.client.models() if each.name == "first"]
    assert summary.versions[0].reason.endswith("sigmax.output can name another: kinds, traits")


def test_the_configuration_may_state_the_task(heads: Server) -> None:
    result = heads.client.classify("configured", ROWS)
    assert [row.decision[0].label for row in result] == ["hen", "hen"]


def test_a_batch_of_exactly_one_row_is_classified(heads: Server) -> None:
    assert heads.client.classify("one-row", ROWS[0])[0].decision[0].index == 0
    assert heads.client.model("one-row").max_batch_size == 0
    refused = refusal(lambda: classify(heads, "one-row", Tensor.of("x", ROWS)))
    assert refused.reason == "SHAPE_MISMATCH"


def test_batches_are_run_row_by_row_where_the_configuration_asks_for_it(heads: Server) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    model = heads.client.model("row-by-row")
    assert (model.max_batch_size, model.inputs[0].shape, model.rows_independent) == (
        4,
        (-1, 3),
        True,
    )
    alone = [heads.client.classify("one-row", row).probabilities for row in rows]
    together = heads.client.classify("row-by-row", rows).probabilities
    assert np.array_equal(together, np.stack(alone))
    [answer] = infer(heads, "row-by-row", Tensor.of("x", rows))
    assert np.array_equal(answer.array, together)


def test_classes_may_have_axes_of_size_1_behind_them(heads: Server) -> None:
    row = heads.client.classify("pooled-row", ROWS[:1])
    assert (row.label, row.probabilities.shape) == ("a", (1, 3))
    batch = heads.client.classify("pooled", ROWS)
    expected = np.exp(ROWS) / np.exp(ROWS).sum(axis=1, keepdims=True)
    assert batch.probabilities == pytest.approx(expected, abs=1e-6)
