"""The decision that is taken from probabilities, and the parts of it that are returned."""

import math

import numpy as np
import pytest
import sigmax
from support.server import Server
from support.wire import Tensor, classify, refusal


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_a_threshold_decides_binary_models_strictly(server: Server) -> None:
    classify = server.client.classify
    assert classify("sigmoid", [0.0], threshold=0.5).label == "no"
    assert classify("sigmoid", [0.0], threshold=0.49999).label == "yes"
    assert classify("sigmoid", [0.0], threshold=0.0).label == "yes"
    assert classify("sigmoid", [100.0], threshold=1.0).label == "no"
    # 0 is the decision of class 0 even where class 1 is the more probable one.
    sure = classify("sigmoid", [logit(0.8)], threshold=0.9)
    assert (sure.label, round(sure.probability, 4)) == ("no", 0.2)
    assert [c.label for c in sure.classes] == ["yes", "no"]


def test_each_label_of_a_multilabel_model_is_decided_for_itself(server: Server) -> None:
    scores = [[logit(0.3)] * 3, [logit(0.6)] * 3, [logit(0.9)] * 3, [logit(0.1)] * 3]
    rows = server.client.classify("multilabel", scores)
    assert [[c.label for c in row.decision] for row in rows] == [
        ["fur"],
        ["fur", "wings"],
        ["fur", "wings", "scales"],
        [],
    ]
    overridden = server.client.classify("multilabel", scores, threshold=0.5)
    assert [len(row.decision) for row in overridden] == [0, 3, 3, 0]


def test_top_k_cuts_the_classes_and_not_the_decision(server: Server) -> None:
    scores = [0.0, 3.0, 1.0, 2.0, 4.0]
    for top_k, labels in ((0, "ebdca"), (1, "e"), (3, "ebd"), (5, "ebdca"), (99, "ebdca")):
        result = server.client.classify("softmax", scores, top_k=top_k)
        assert "".join(c.label for c in result.classes) == labels
        assert result.label == "e"
        assert result.probabilities.shape == (5,)
    assert [c.label for c in server.client.classify("softmax", scores).top(2)] == ["e", "b"]
    both = server.client.classify("multilabel", [9.0, 9.0, 9.0], top_k=1)
    assert (len(both.classes), len(both.decision)) == (1, 3)


def test_ties_go_to_the_lower_index(server: Server) -> None:
    result = server.client.classify("softmax", [1.0, 2.0, 2.0, 1.0, 2.0])
    assert [c.index for c in result.classes] == [1, 2, 4, 0, 3]
    assert [c.index for c in result.decision] == [1]


def test_probabilities_are_returned_where_asked_for(server: Server) -> None:
    rows = Tensor.of("x", np.eye(5))
    whole = classify(server, "softmax", rows, return_probabilities=True)
    assert (whole.probabilities.name, list(whole.probabilities.shape)) == ("p", [5, 5])
    matrix = np.frombuffer(whole.probabilities.raw, np.float32).reshape(5, 5)
    for row, probabilities in zip(whole.rows, matrix, strict=True):
        assert {c.index: np.float32(c.probability) for c in row.classes} == dict(
            enumerate(probabilities)
        )
    assert not classify(server, "softmax", rows).HasField("probabilities")


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf])
def test_a_threshold_is_in_0_to_1(server: Server, threshold: float) -> None:
    row = Tensor.of("x", [[0.0]])
    found = refusal(lambda: classify(server, "sigmoid", row, threshold=threshold))
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "BAD_FIELD")
    assert found.message.startswith("threshold: expected a number from 0 to 1, got ")
    assert found.fields == {"threshold": found.message}


def test_a_multiclass_model_takes_no_threshold(server: Server) -> None:
    with pytest.raises(sigmax.InvalidInput) as raised:
        server.client.classify("softmax", [0.0] * 5, threshold=0.5)
    message = "threshold: expected none for a multi-class model, whose most probable class decides"
    assert (raised.value.reason, raised.value.fields) == ("BAD_FIELD", {"threshold": message})


def test_timings_say_where_the_time_went(server: Server) -> None:
    timings = server.client.classify("softmax", np.zeros((3, 5))).timings
    assert timings.batch_rows >= 3
    assert 0 < timings.compute_ns < timings.total_ns
    assert timings.queue_ns + timings.compute_ns <= timings.total_ns
