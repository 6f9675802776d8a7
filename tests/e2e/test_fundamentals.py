"""The fundamentals of every classifier, with networks small enough to calculate by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import files
from support.server import Server
from support.wire import Tensor, classify, infer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/fundamentals.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["what"].partition(",")[0])
def test_vectors(server: Server, vector: dict[str, Any]) -> None:
    [answer] = infer(server, vector["model"], Tensor.of("x", vector["input"]))
    expected = np.array(vector["output"], np.float32)
    assert answer.array.shape == expected.shape
    assert np.abs(answer.array - expected).max() <= vector["tolerance"]
    decisions = vector.get("decisions", [[label] for label in vector.get("labels", [])])
    if decisions:
        rows = classify(server, vector["model"], Tensor.of("x", vector["input"])).rows
        assert [[decided.label for decided in row.decision] for row in rows] == decisions


def test_a_pre_activation_of_0_gives_exactly_a_half_and_the_answer_0(server: Server) -> None:
    result = server.client.classify("sigmoid", [0.0])
    assert (result.label, result.probability) == ("no", 0.5)
    assert result.probabilities.tolist() == [0.5, 0.5]
    assert [decided.index for decided in result.decision] == [0]


def test_a_pre_activation_of_6_gives_0_9975_and_the_answer_1(server: Server) -> None:
    result = server.client.classify("sigmoid", [6.0])
    assert round(result.probability, 4) == 0.9975
    assert [decided.index for decided in result.decision] == [1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=5, max_size=5))
def test_softmax_is_exp_over_the_sum_of_exps(server: Server, scores: list[float]) -> None:
    # The same, without numbers that no float holds: both sides divided by exp(max x_j).
    exact = np.exp(np.array(scores) - max(scores))
    result = server.client.classify("softmax", scores)
    assert np.isfinite(result.probabilities).all()
    assert result.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert result.probabilities == pytest.approx(exact / exact.sum(), abs=1e-6)


def test_layers_of_10_18_20_and_5_are_computed_as_by_hand(server: Server) -> None:
    rows = np.random.default_rng(1).normal(size=(7, 10)).astype(np.float32)
    hidden = rows.astype(np.float64)
    for number, (weight, bias) in enumerate(files.LAYERS):
        inputs = np.maximum(hidden, 0) if number else hidden
        hidden = inputs @ weight.astype(np.float64) + bias
    expected = np.exp(hidden) / np.exp(hidden).sum(1, keepdims=True)
    result = server.client.classify("layers", rows)
    assert result.probabilities.shape == (7, 5)
    assert result.probabilities == pytest.approx(expected, abs=1e-5)
    assert result.labels == ["abcde"[index] for index in expected.argmax(1)]


def test_linear_takes_3_numbers_and_gives_2(server: Server) -> None:
    described = server.client.model("linear")
    assert [(x.dtype, x.shape) for x in described.inputs] == [("FP32", (-1, 3))]
    assert [(y.dtype, y.shape) for y in described.outputs] == [("FP32", (-1, 2))]
    assert described.task is None
    rows = np.random.default_rng(2).normal(size=(9, 3)).astype(np.float32)
    [scores] = infer(server, "linear", Tensor.of("x", rows))
    assert scores.shape == (9, 2)
    by_hand = rows.astype(np.float64) @ files.LINEAR_WEIGHT.T + files.LINEAR_BIAS
    assert scores.array == pytest.approx(by_hand, abs=1e-6)
