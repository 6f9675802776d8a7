"""Requests are built from values and a description; replies become results."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sigmax import InvalidInput, Model, NotSupported, TensorSpec, _codec
from sigmax._codec import Asked, Question
from sigmax.v1 import classifier_pb2 as pb


def described(
    *inputs: TensorSpec, max_batch_size: int = 64, task: str | None = "multiclass"
) -> Model:
    return Model(
        name="animal",
        version="1",
        versions=(),
        inputs=inputs or (TensorSpec("x", "FP32", (-1, 3), ""),),
        outputs=(),
        task=task,
        labels=(),
        thresholds=(),
        device="cpu",
        max_batch_size=max_batch_size,
        preferred_batch_size=1,
        rows_independent=True,
        device_reason="",
    )


def question(**changes: Any) -> Question:
    options = {
        "version": "",
        "head": "",
        "top_k": 0,
        "threshold": None,
        "return_probabilities": True,
    }
    return Question("animal", **{**options, **changes})


def asked(
    task: str | None = "multiclass", rows: int = 1, *, single: bool = False, **changes: Any
) -> Asked:
    return Asked(question(**changes), task, rows, single)


def test_the_whole_request() -> None:
    asking = question(version="7", top_k=2, threshold=0.25, return_probabilities=False)
    request, expected = _codec.encode(asking, described(), [[1, 2, 3], [4, 5, 6]])
    assert expected == Asked(asking, "multiclass", 2, single=False)
    assert request == pb.ClassifyRequest(
        model_name="animal",
        model_version="7",
        inputs=[
            pb.Tensor(
                name="x",
                dtype=pb.DATA_TYPE_FP32,
                shape=[2, 3],
                raw=np.arange(1, 7, dtype="<f4").tobytes(),
            )
        ],
        top_k=2,
        threshold=0.25,
        return_probabilities=False,
    )
    assert not _codec.encode(question(), described(), [[1, 2, 3]])[0].HasField("threshold")


dims = st.lists(st.integers(1, 3), max_size=3)


@given(dims, dims, st.integers(1, 3), st.data())
def test_one_row_and_a_batch_are_told_apart_by_their_axes(
    expected: list[int], found: list[int], rows: int, data: st.DataObject
) -> None:
    free = [-1 if data.draw(st.booleans()) else size for size in expected]
    model = described(TensorSpec("x", "FP64", (-1, *free), ""))

    def fits(shape: list[int]) -> bool:
        return len(shape) == len(free) and all(
            e in (-1, f) for e, f in zip(free, shape, strict=True)
        )

    request, built = _codec.encode(question(), model, np.ones(expected))
    assert (built.single, list(request.inputs[0].shape)) == (True, [1, *expected])
    request, built = _codec.encode(question(), model, np.ones([rows, *expected]))
    assert (built.single, list(request.inputs[0].shape)) == (False, [rows, *expected])
    if not fits(found) and not fits(found[1:]):
        with pytest.raises(InvalidInput) as caught:
            _codec.encode(question(), model, np.ones(found))
        assert caught.value.reason == "SHAPE_MISMATCH"
        assert list(caught.value.fields) == ["inputs[x].shape"]


@pytest.mark.parametrize(
    ("inputs", "reason", "field", "text"),
    [
        (
            [1, 2],
            "SHAPE_MISMATCH",
            "inputs[x].shape",
            "expected shape [-1, 3], or [3] for one row; got [2]",
        ),
        ([1, 2, "a"], "BAD_ELEMENT", "inputs[x].data", "expected numbers"),
        ([1, 2, 2**24 + 1], "BAD_ELEMENT", "inputs[x].data", "got 16777217 at [2]"),
        ({"y": [1, 2, 3]}, "UNEXPECTED_INPUT", "inputs", "expects the inputs 'x'; got 'y'"),
        ({}, "MISSING_INPUT", "inputs", "expects the inputs 'x'; got nothing"),
    ],
)
def test_what_does_not_fit_is_named(inputs: Any, reason: str, field: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        _codec.encode(question(), described(), inputs)
    assert text in str(caught.value)
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", reason)
    assert caught.value.fields == {field: str(caught.value)}


TWO = described(TensorSpec("image", "UINT8", (-1, 2, 2), ""), TensorSpec("age", "FP32", (-1,), ""))


def test_several_inputs_come_by_name() -> None:
    image = [[1, 2], [3, 4]]
    request, built = _codec.encode(question(), TWO, {"age": 7, "image": image})
    assert built.single
    assert [(t.name, list(t.shape)) for t in request.inputs] == [("image", [1, 2, 2]), ("age", [1])]
    request, built = _codec.encode(question(), TWO, {"image": [image] * 3, "age": [7, 8, 9]})
    assert not built.single
    assert [list(t.shape) for t in request.inputs] == [[3, 2, 2], [3]]


def test_several_inputs_are_all_one_row_or_all_a_batch() -> None:
    with pytest.raises(InvalidInput, match="got one row of 'age' only"):
        _codec.encode(question(), TWO, {"image": [[[1, 2], [3, 4]]], "age": 7})
    with pytest.raises(InvalidInput, match="expects a dict of the inputs 'image', 'age'"):
        _codec.encode(question(), TWO, [[1, 2], [3, 4]])


def test_a_model_without_a_batch_axis_is_asked_as_it_is() -> None:
    model = described(TensorSpec("x", "FP32", (3, 2), ""), max_batch_size=0)
    request, built = _codec.encode(question(), model, np.ones((3, 2)))
    assert (built.single, list(request.inputs[0].shape)) == (False, [3, 2])
    with pytest.raises(InvalidInput, match=r"expected shape \[3, 2\]; got \[2\]"):
        _codec.encode(question(), model, [1, 2])


def test_a_model_of_exactly_one_row_is_asked_with_and_without_its_axis() -> None:
    model = described(TensorSpec("x", "FP32", (1, 3), ""), max_batch_size=0)
    for values, single in ((np.ones(3), True), (np.ones((1, 3)), False)):
        request, built = _codec.encode(question(), model, values)
        assert (built.single, built.rows, list(request.inputs[0].shape)) == (single, 1, [1, 3])


@pytest.mark.parametrize("top_k", [-1, 2**32])
def test_top_k_is_checked_before_it_is_sent(top_k: int) -> None:
    with pytest.raises(InvalidInput, match=f"got {top_k}") as caught:
        question(top_k=top_k)
    assert list(caught.value.fields) == ["top_k"]


def test_errors_that_a_new_description_may_mend() -> None:
    changed = InvalidInput.in_field("inputs[x].dtype", "DTYPE_MISMATCH", "")
    assert _codec.may_be_outdated(changed)
    assert _codec.may_be_outdated(NotSupported("", code="FAILED_PRECONDITION"))
    assert not _codec.may_be_outdated(InvalidInput.in_field("inputs[x]", "NOT_FINITE", ""))


def scored(*pairs: tuple[int, float]) -> list[pb.ScoredClass]:
    return [pb.ScoredClass(index=i, label="abc"[i], probability=p) for i, p in pairs]


REPLY = pb.ClassifyResponse(
    model_name="animal",
    model_version="3",
    rows=[
        pb.Classification(classes=scored((2, 0.75), (0, 0.25), (1, 0)), decision=scored((2, 0.75))),
        pb.Classification(classes=scored((1, 1), (0, 0), (2, 0)), decision=scored((1, 1))),
    ],
    probabilities=pb.Tensor(
        name="p",
        dtype=pb.DATA_TYPE_FP32,
        shape=[2, 3],
        raw=np.array([0.25, 0, 0.75, 0, 1, 0], "<f4").tobytes(),
    ),
    timings=pb.Timings(queue_ns=1, compute_ns=2, total_ns=3, batch_rows=4),
)


def test_a_batch_is_a_sequence_of_rows() -> None:
    result = _codec.decode(REPLY, asked(rows=2))
    assert (result.model, result.version, len(result)) == ("animal", "3", 2)
    assert result.labels == ["c", "b"]
    assert [row.probability for row in result] == [0.75, 1.0]
    assert [result[-1].label, result[0:1][0].label] == ["b", "c"]
    assert result.probabilities.tolist() == [[0.25, 0, 0.75], [0, 1, 0]]
    assert result[0].probabilities.tolist() == [0.25, 0, 0.75]
    assert [c.label for c in result[0].top(2)] == ["c", "a"]
    assert (result.timings.queue_ns, result.timings.batch_rows) == (1, 4)
    assert "c 0.75" in repr(result)
    for name in ("label", "probability", "best", "classes", "decision"):
        with pytest.raises(ValueError, match="has 2 rows"):
            getattr(result, name)
    with pytest.raises(IndexError):
        _ = result[2]


@pytest.mark.parametrize("single", [True, False])
def test_a_result_of_one_row_is_that_row(single: bool) -> None:
    reply = pb.ClassifyResponse(rows=REPLY.rows[:1])
    reply.probabilities.CopyFrom(REPLY.probabilities)
    reply.probabilities.shape[0] = 1
    reply.probabilities.raw = reply.probabilities.raw[:12]
    result = _codec.decode(reply, asked(single=single))
    assert (result.label, result.probability, result.best.index) == ("c", 0.75, 2)
    assert result.top(1) == result.decision == result.classes[:1]
    assert result.probabilities.shape == ((3,) if single else (1, 3))


@pytest.mark.parametrize("shape", [[1], [1, 1]])
def test_probabilities_of_a_binary_model_have_two_columns(shape: list[int]) -> None:
    reply = pb.ClassifyResponse(
        rows=[pb.Classification(classes=scored((0, 0.75), (1, 0.25)), decision=scored((1, 0.25)))]
    )
    reply.probabilities.dtype = pb.DATA_TYPE_FP32
    reply.probabilities.shape.extend(shape)
    reply.probabilities.raw = np.array([0.25], "<f4").tobytes()
    result = _codec.decode(reply, asked("binary", single=True))
    assert result.probabilities.tolist() == [0.75, 0.25]
    assert result.label == "b"  # the decision, by a low threshold, and not the most probable


def test_a_row_of_a_multilabel_model_may_decide_nothing() -> None:
    reply = pb.ClassifyResponse(rows=[pb.Classification(classes=scored((2, 0.5), (0, 0.25)))])
    result = _codec.decode(reply, asked("multilabel", single=True, return_probabilities=False))
    assert (result.decision, result.label) == ((), "c")
    assert repr(result[0]) == "Classification(nothing decided)"
    for answer in (result, result[0]):
        with pytest.raises(ValueError, match="return_probabilities was False"):
            _ = answer.probabilities


def test_a_description_keeps_what_is_newer_than_the_sdk() -> None:
    message = pb.Model(
        name="m",
        inputs=[pb.TensorDescription(name="text", dtype=99, shape=[-1])],  # type: ignore[arg-type]
        task=9,  # type: ignore[arg-type]
        versions=[pb.ModelVersion(version="1", state=7)],  # type: ignore[arg-type]
    )
    model = _codec.decode_model(message)
    assert (model.inputs[0].dtype, model.task, model.versions[0].state) == ("99", "9", "7")
