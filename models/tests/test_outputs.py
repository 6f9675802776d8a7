"""Modules with several outputs: one is chosen, or each is a head of the file."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from sigmax_models import Declaration, ExportError, ExportNotice, export
from sigmax_models.golden import golden_folders, read_tensor
from sigmax_models.parity import EXACT, answer_onnx, answers_onnx, open_session
from torch import nn

ROWS = {"x": np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)}
KIND = Declaration(task="multiclass", labels=("cat", "dog", "hen"), activation="softmax")
ALIVE = Declaration(
    task="binary", labels=("no", "yes"), thresholds=(0.3,), activation="sigmoid", output="p_alive"
)


@dataclass
class Result:
    loss: torch.Tensor | None
    kind: torch.Tensor
    alive: torch.Tensor


class Named(NamedTuple):
    kind: torch.Tensor
    alive: torch.Tensor


class Animal(nn.Module):
    """Returns three scores and one, in a container."""

    def __init__(self, container: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = nn.Linear(3, 3)
        self.alive = nn.Linear(3, 1)
        self.container = container

    def forward(self, x: torch.Tensor) -> Any:
        return self.container(self.kind(x), self.alive(x))


CONTAINERS: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "tuple": lambda kind, alive: (kind, alive),
    "list": lambda kind, alive: [kind, alive],
    "dict": lambda kind, alive: {"kind": kind, "alive": alive},
    "dataclass": lambda kind, alive: Result(None, kind, alive),
    "named tuple": Named,
}


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def by_torch() -> Named:
    with torch.no_grad():
        result: Named = Animal(Named)(torch.from_numpy(ROWS["x"]))
    return Named(result.kind.softmax(1), result.alive.sigmoid())


def alive_by_torch() -> np.ndarray:
    return by_torch().alive.numpy()


@pytest.mark.parametrize("container", CONTAINERS)
def test_one_output_is_chosen_by_its_place_or_its_name(container: str, tmp_path: Path) -> None:
    choice = 1 if container in ("tuple", "list") else "alive"
    module = Animal(CONTAINERS[container])
    written = export(module, tmp_path / "model.onnx", ROWS, ALIVE, output=choice)
    session = open_session(written.path.read_bytes())
    assert [value.name for value in session.get_outputs()] == ["p_alive"]
    assert answer_onnx(session, ROWS) == pytest.approx(alive_by_torch(), abs=EXACT)
    assert not {"sigmax.output", "sigmax.heads"} & set(metadata(written.path))


@pytest.mark.parametrize("container", [lambda one, _: (one,), lambda one, _: {"logits": one}])
def test_an_only_output_need_not_be_chosen(
    container: Callable[[torch.Tensor, torch.Tensor], Any], tmp_path: Path
) -> None:
    written = export(Animal(container), tmp_path / "model.onnx", ROWS, KIND)
    assert metadata(written.path)["sigmax.task"] == "multiclass"


@pytest.mark.parametrize(
    ("container", "choice", "message"),
    [
        ("tuple", None, r"expected one of them .*: 0 \[2, 3\], 1 \[2, 1\]$"),
        ("dict", None, r"expected one of them .*: 0 'kind' \[2, 3\], 1 'alive' \[2, 1\]$"),
        ("tuple", 2, r"the module has none called 2, but 0 \[2, 3\], 1 \[2, 1\]"),
        ("tuple", -1, "the module has none called -1"),
        ("dict", "dead", "the module has none called 'dead', but 0 'kind'"),
        ("tuple", {"kind": 0}, "expected heads, a dict of declarations, for several outputs"),
    ],
)
def test_a_choice_that_is_missing_or_wrong_lists_the_outputs(
    container: str, choice: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export(Animal(CONTAINERS[container]), tmp_path / "model.onnx", ROWS, KIND, output=choice)
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_returns_no_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match="expected the module to return a tensor, got an object of type NoneType"
    ):
        export(Animal(lambda *_: None), tmp_path / "model.onnx", ROWS, KIND)


@pytest.mark.parametrize(
    ("container", "chosen"),
    [("dataclass", None), ("tuple", None), ("tuple", {"alive": 1, "kind": 0})],
)
def test_several_outputs_are_heads_with_a_task_each(
    container: str, chosen: dict[str, int] | None, tmp_path: Path
) -> None:
    heads = {"kind": KIND, "alive": ALIVE}
    written = export(
        Animal(CONTAINERS[container]), tmp_path / "model.onnx", ROWS, heads, output=chosen
    )
    entries = metadata(written.path)
    assert set(entries) == {"sigmax.format", "sigmax.heads", "sigmax.tolerance", "sigmax.producer"}
    assert json.loads(entries["sigmax.heads"]) == [
        {"name": "kind", "output": "kind", "task": "multiclass", "labels": ["cat", "dog", "hen"]},
        {
            "name": "alive",
            "output": "p_alive",
            "task": "binary",
            "labels": ["no", "yes"],
            "thresholds": [0.3],
        },
    ]
    answers = answers_onnx(open_session(written.path.read_bytes()), ROWS)
    assert {name: answer.shape for name, answer in answers.items()} == {
        "kind": (64, 3),
        "p_alive": (64, 1),
    }
    assert answers["p_alive"] == pytest.approx(alive_by_torch(), abs=EXACT)
    for folder in golden_folders(written.path):
        assert read_tensor(folder / "output_0.pb")[0] == "kind"
        name, values = read_tensor(folder / "output_1.pb")
        assert name == "p_alive"
        assert values == pytest.approx(alive_by_torch()[: len(values)], abs=EXACT)


def test_heads_of_one_output_share_it(tmp_path: Path) -> None:
    heads = {
        "careful": Declaration(task="binary", thresholds=(0.9,), activation="sigmoid"),
        "bold": Declaration(task="binary", thresholds=(0.1,), activation="sigmoid"),
    }
    written = export(
        Animal(Named), tmp_path / "model.onnx", ROWS, heads, output={"careful": 1, "bold": 1}
    )
    listed = json.loads(metadata(written.path)["sigmax.heads"])
    assert [(head["output"], head["thresholds"]) for head in listed] == [
        ("careful", [0.9]),
        ("careful", [0.1]),
    ]
    assert len(onnx.load(written.path).graph.output) == 1


@pytest.mark.parametrize(
    ("heads", "chosen", "message"),
    [
        ({}, None, "heads: expected 1 to 64, got 0"),
        ({"": KIND}, None, "names that are not empty, got ''"),
        ({"kind": Declaration()}, None, "head 'kind': expected a task, got none"),
        ({"kind": KIND}, 0, "expected one for each head, by its name, got 0"),
        ({"kind": KIND}, {"alive": 1}, r"no head is named \['alive'\], only \['kind'\]"),
        ({"kind": KIND, "alive": KIND}, None, "head 'alive': .* at least 2 classes, got 1"),
        (
            {
                "kind": Declaration(**{**KIND.__dict__, "output": "p"}),
                "alive": Declaration(**{**ALIVE.__dict__, "output": "p"}),
            },
            None,
            r"expected another name for each, got \['p', 'p'\]",
        ),
        (
            {
                "kind": Declaration(**{**KIND.__dict__, "meanings": {"x": "traits"}}),
                "alive": Declaration(**{**ALIVE.__dict__, "meanings": {"x": "marks"}}),
            },
            None,
            "meanings: heads state two of 'x'",
        ),
    ],
)
def test_heads_that_do_not_fit_are_named(
    heads: dict[str, Declaration], chosen: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export(Animal(Named), tmp_path / "model.onnx", ROWS, heads, output=chosen)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_loses_its_batch_axis_keeps_it_in_the_file(tmp_path: Path) -> None:
    module = Animal(lambda _, alive: alive.squeeze())
    with pytest.warns(ExportNotice, match="no batch axis for a single row, as after squeeze"):
        written = export(module, tmp_path / "model.onnx", ROWS, ALIVE)
    session = open_session(written.path.read_bytes())
    for count in (1, 2):
        answer = answer_onnx(session, {"x": ROWS["x"][:count]})
        assert answer == pytest.approx(alive_by_torch()[:count, 0], abs=EXACT)


def test_a_squeeze_that_drops_nothing_of_a_batch_drops_nothing_of_a_row(tmp_path: Path) -> None:
    module = Animal(lambda kind, _: kind.squeeze())
    with pytest.warns(ExportNotice, match="no batch axis for a single row, as after squeeze"):
        written = export(module, tmp_path / "model.onnx", ROWS, KIND)
    session = open_session(written.path.read_bytes())
    for count in (1, 2):
        answer = answer_onnx(session, {"x": ROWS["x"][:count]})
        assert answer == pytest.approx(by_torch().kind[:count].numpy(), abs=EXACT)


def test_an_output_of_bfloat16_becomes_float32(tmp_path: Path) -> None:
    module = Animal(lambda kind, _: kind.bfloat16())
    with pytest.warns(ExportNotice, match="'probabilities' is bfloat16; .* returns it as float32"):
        written = export(module, tmp_path / "model.onnx", ROWS, KIND)
    assert open_session(written.path.read_bytes()).get_outputs()[0].type == "tensor(float)"


def test_an_input_with_the_name_of_the_output_is_named(tmp_path: Path) -> None:
    rows = {"probabilities": ROWS["x"]}
    with pytest.raises(
        ExportError, match=r"an input is named 'probabilities', too: .* another nam"
    ):
        export(nn.Linear(3, 3), tmp_path / "model.onnx", rows, KIND)
