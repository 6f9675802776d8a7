"""Heads, warnings and encodings: what a server says of them, asks for them and answers by them."""

from typing import Any

import pytest
import sigmax
from sigmax.v1 import classifier_pb2 as pb

ROW = [0.25, 0.5, 0.25]
KIND = pb.Head(name="kind", output="p_kind", task=pb.TASK_MULTICLASS, labels=["a", "b", "c"])
FEATURES = pb.Head(name="features", output="p_features", task=pb.TASK_MULTILABEL, thresholds=[0.75])


@pytest.fixture
def heads(peer: Any) -> Any:
    """The peer, whose model has two heads and a warning, and takes texts beside numbers."""
    peer.described.heads.extend([KIND, FEATURES])
    peer.described.warnings.append("rows depend\non each other")
    return peer


def test_heads_are_described(client: Any, heads: Any) -> None:
    model = client.model("animal")
    assert model.heads == (
        sigmax.Head("kind", "p_kind", "multiclass", ("a", "b", "c"), ()),
        sigmax.Head("features", "p_features", "multilabel", (), (0.75,)),
    )
    assert model.warnings == ("rows depend\non each other",)
    assert model.inputs[0].encoding == ""


def test_a_head_answers(client: Any, heads: Any) -> None:
    first = client.classify("animal", ROW)
    assert (first.head, first.label) == ("kind", "mammal")
    result = client.classify("animal", ROW, head="features", threshold=0.75)
    assert (result.head, result.decision) == ("features", ())
    assert result.label == "mammal"  # the most probable, though nothing is decided
    [(_, answer)] = client.classify_stream("animal", [("k", ROW)], head="features")
    assert answer.head == "features"
    assert [call.head for call in heads.calls if isinstance(call, pb.ClassifyRequest)] == [
        "",
        "features",
    ]


def test_a_head_that_is_not_there(client: Any, heads: Any) -> None:
    client.model("animal")
    heads.calls.clear()
    with pytest.raises(sigmax.InvalidInput, match="has the heads 'kind', 'features'; got 'tail'"):
        client.classify("animal", ROW, head="tail")
    assert [type(call).__name__ for call in heads.calls] == ["GetModelRequest"]  # perhaps it is new
    heads.described.heads.append(pb.Head(name="tail", task=pb.TASK_MULTICLASS))
    assert client.classify("animal", ROW, head="tail").head == "tail"


def test_a_model_without_named_heads(client: Any, peer: Any) -> None:
    assert client.classify("animal", ROW).head == ""
    with pytest.raises(sigmax.InvalidInput, match="has no head with a name; got 'kind'"):
        client.classify("animal", ROW, head="kind")


def test_an_answer_of_another_head_is_refused(client: Any, heads: Any) -> None:
    heads.knows_heads = False  # as a server of an older version
    with pytest.raises(sigmax.ServerFault, match="expected the head 'features', got ''"):
        client.classify("animal", ROW, head="features")


def test_the_command(ask: Any, heads: Any, capsys: pytest.CaptureFixture[str]) -> None:
    heads.described.inputs[0].encoding = "utf-8"
    assert ask("model", "animal", "--output=table") == 0
    shown = capsys.readouterr().out
    assert "input             x FP32 [-1, 3] text in utf-8; three scores\n" in shown
    assert "head              kind: multiclass from p_kind; labels a, b, c\n" in shown
    assert (
        "head              features: multilabel from p_features; labels -; thresholds 0.75\n"
        in shown
    )
    assert r"warning           rows depend\non each other" in shown
    heads.described.inputs[0].encoding = ""
    assert ask("classify", "animal", "[0, 0, 1]", "--head=features", "--output=json") == 0
    assert '"head": "features"' in capsys.readouterr().out
