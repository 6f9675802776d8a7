import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from sigmax_models import Declaration, ExportError, ExportNotice, InexactWarning, export
from sigmax_models.golden import golden_folders, read_tensor
from sigmax_models.parity import EXACT, answer_onnx, open_session
from torch import nn

SCORES = Declaration(output="scores")
SIGMOID = Declaration(task="binary", activation="sigmoid")
SOFTMAX = Declaration(task="multiclass", activation="softmax")


class Calls(nn.Module):
    """A module whose forward is a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def ask(path: Path, **rows: Any) -> np.ndarray:
    arrays = {name: np.asarray(row, np.float32) for name, row in rows.items()}
    return answer_onnx(open_session(path.read_bytes()), arrays)


def metadata(path: Path) -> dict[str, str]:
    model = onnx.ModelProto.FromString(path.read_bytes())
    return {entry.key: entry.value for entry in model.metadata_props}


@pytest.fixture(scope="module")
def sigmoid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sigmoid") / "model.onnx"
    return export(nn.Identity(), path, {"logit": normal(8, 1)}, SIGMOID).path


@pytest.fixture(scope="module")
def softmax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("softmax") / "model.onnx"
    return export(nn.Identity(), path, {"logits": normal(8, 4)}, SOFTMAX).path


def test_sigmoid_of_zero_is_exactly_one_half(sigmoid: Path) -> None:
    assert ask(sigmoid, logit=[[0.0]]).tolist() == [[0.5]]


def test_sigmoid_of_six_is_0_9975(sigmoid: Path) -> None:
    answer = ask(sigmoid, logit=[[6.0]])[0, 0]
    assert round(float(answer), 4) == 0.9975
    assert answer == pytest.approx(1 / (1 + math.exp(-6)), abs=1e-6)


def test_sigmoid_of_great_scores_is_0_or_1_and_never_nan(sigmoid: Path) -> None:
    answer = ask(sigmoid, logit=[[-1e4], [1e4]])
    assert answer[:, 0] == pytest.approx([0, 1], abs=1e-6)


def test_softmax_is_the_share_of_exponentials_and_sums_to_1(softmax: Path) -> None:
    scores = [1.0, -2.0, 0.5, 3.0]
    answer = ask(softmax, logits=[scores])[0]
    exponentials = [math.exp(score) for score in scores]
    assert answer == pytest.approx([e / sum(exponentials) for e in exponentials], abs=1e-6)
    assert answer.sum() == pytest.approx(1, abs=1e-6)


def test_softmax_of_great_scores_is_no_nan(softmax: Path) -> None:
    answer = ask(softmax, logits=[[1e4, 1e4, -1e4, 0], [1e4, 0, 0, 0]])
    assert answer.tolist() == [[0.5, 0.5, 0, 0], [1, 0, 0, 0]]


def test_a_linear_layer_is_w_x_plus_b(tmp_path: Path) -> None:
    layer = nn.Linear(3, 2)
    written = export(layer, tmp_path / "model.onnx", {"x": normal(4, 3)}, SCORES)
    x = normal(5, 3)
    expected = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    assert ask(written.path, x=x) == pytest.approx(expected, abs=1e-6)
    assert set(metadata(written.path)) == {"sigmax.format", "sigmax.tolerance", "sigmax.producer"}


def test_several_inputs_keep_their_names_dtypes_and_order(tmp_path: Path) -> None:
    module = Calls(lambda image, weight: image.to(torch.float32).mean((1, 2)) * weight)
    written = export(
        module,
        tmp_path / "model.onnx",
        {"image": np.arange(24, dtype=np.int8).reshape(2, 3, 4), "weight": normal(2)},
        Declaration(output="scores", meanings={"weight": "of the image"}),
    )
    session = open_session(written.path.read_bytes())
    inputs = [(value.name, value.type, value.shape) for value in session.get_inputs()]
    assert inputs == [
        ("image", "tensor(int8)", ["batch", 3, 4]),
        ("weight", "tensor(float)", ["batch"]),
    ]
    assert json.loads(metadata(written.path)["sigmax.inputs"]) == {"weight": "of the image"}
    sample = golden_folders(written.path)[1]
    assert read_tensor(sample / "input_0.pb")[0] == "image"
    name, weight = read_tensor(sample / "input_1.pb")
    assert (name, weight.shape) == ("weight", (7,))


def test_a_multilabel_network_has_a_threshold_for_each_class(tmp_path: Path) -> None:
    declaration = Declaration(
        task="multilabel", labels=("caf\u00e9", "bar", "pub"), activation="sigmoid"
    )
    written = export(nn.Linear(2, 3), tmp_path / "model.onnx", {"x": normal(4, 2)}, declaration)
    entries = metadata(written.path)
    assert json.loads(entries["sigmax.thresholds"]) == [0.5, 0.5, 0.5]
    assert json.loads(entries["sigmax.labels"]) == ["caf\u00e9", "bar", "pub"]
    assert entries["sigmax.task"] == "multilabel"


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    export(module, tmp_path / "model.onnx", {"x": normal(4, 2)}, SCORES)
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_bare_files_share_a_folder_and_an_export_replaces_the_one_before(tmp_path: Path) -> None:
    for name in ("one", "two", "one"):
        export(nn.Linear(2, 2), tmp_path / f"{name}.onnx", {"x": normal(4, 2)}, SCORES)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("one.onnx", "one_test_data_set_0", "one_test_data_set_1"),
        *("two.onnx", "two_test_data_set_0", "two_test_data_set_1"),
    ]
    name, given = read_tensor(tmp_path / "one_test_data_set_1/input_0.pb")
    _, expected = read_tensor(tmp_path / "one_test_data_set_1/output_0.pb")
    assert ask(tmp_path / "one.onnx", **{name: given}) == pytest.approx(expected, abs=EXACT)


def test_a_thousand_names_are_taken_two_of_them_twice(tmp_path: Path) -> None:
    # ImageNet has two classes called "crane" and two called "maillot", and names with commas.
    labels = [f"class {number}, alias" for number in range(996)] + ["crane", "maillot"] * 2
    with pytest.warns(ExportNotice, match="more than one class is called 'crane', 'maill") as told:
        declaration = Declaration(task="multiclass", labels=labels, activation="softmax")
    assert [warning.filename for warning in told] == [__file__]
    written = export(nn.Linear(4, 1000), tmp_path / "model.onnx", {"x": normal(64, 4)}, declaration)
    assert json.loads(metadata(written.path)["sigmax.labels"]) == labels


def great_scores() -> nn.Module:
    """Scores of about 1e5, where floats are 0.008 apart: no two summations agree to 1e-6."""
    torch.manual_seed(0)
    layer = nn.Linear(256, 8)
    with torch.no_grad():
        layer.weight.mul_(1e5)
    return layer


def test_an_inexact_network_is_exported_with_its_difference_as_tolerance(tmp_path: Path) -> None:
    with pytest.warns(InexactWarning, match="answers differ by"):
        written = export(great_scores(), tmp_path / "model.onnx", {"x": normal(64, 256)}, SCORES)
    assert not written.parity.exact
    assert written.tolerance >= 2 * max(written.parity.torch, written.parity.alone) > EXACT
    assert float(metadata(written.path)["sigmax.tolerance"]) == written.tolerance


def test_a_caller_can_refuse_inexact_networks(tmp_path: Path) -> None:
    # Warnings are errors in these tests.
    with pytest.raises(InexactWarning):
        export(great_scores(), tmp_path / "model.onnx", {"x": normal(64, 256)}, SCORES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"task": "ternary"}, "task: expected binary, multiclass, multilabel or None, got 'tern"),
        ({"output": 3}, "output: expected a name that is not empty, got 3"),
        ({"activation": "relu"}, "activation: expected sigmoid, softmax or None, got 'relu'"),
        (
            {"task": "binary", "activation": "softmax"},
            "a binary task expects sigmoid, got softmax",
        ),
        ({"labels": ("a", "b")}, "labels: a network without a task has no classes"),
        ({"task": "multiclass", "labels": "abc"}, "labels: expected a list, got 'abc'"),
        ({"task": "multiclass", "labels": {"a"}}, "labels: expected a list, got {'a'}"),
        ({"task": "binary", "thresholds": 0.3}, "thresholds: expected a list, got 0.3"),
        ({"task": "binary", "thresholds": ["x"]}, r"expected numbers in \[0, 1\], got 'x'"),
        ({"task": "multiclass", "labels": ("a", "")}, "expected names that are not empty, got ''"),
        ({"task": "binary", "labels": ("a",)}, "a binary task expects 2.*got 1"),
        (
            {"task": "multiclass", "thresholds": (0.5,)},
            "only binary and multilabel tasks have them",
        ),
        ({"thresholds": (0.5,)}, "only binary and multilabel tasks have them"),
        ({"task": "binary", "thresholds": (0.5, 0.5)}, "a binary task expects 1, got 2"),
        ({"task": "binary", "thresholds": (1.5,)}, r"expected numbers in \[0, 1\], got 1.5"),
        ({"task": "binary", "thresholds": (math.nan,)}, r"expected numbers in \[0, 1\], got nan"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(
    parts: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        Declaration(**parts)


def depends_on_values(x: torch.Tensor) -> torch.Tensor:
    return x + 1 if x.sum() > 0 else x - 1


def broken() -> nn.Module:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = math.nan
    return layer


REFUSED: dict[str, tuple[nn.Module, Mapping[str, Any], Declaration, str]] = {
    "no inputs": (nn.Identity(), {}, SCORES, "at least one input, got none"),
    "no rows": (nn.Identity(), {"x": normal(0, 2)}, SCORES, r"\[rows >= 1, ...\], got \[0, 2\]"),
    "no row axis": (nn.Identity(), {"x": np.float32(1)}, SCORES, r"'x' of shape .*, got \[\]"),
    "unequal rows": (
        Calls(torch.add),
        {"x": normal(2, 2), "y": normal(3, 2)},
        SCORES,
        "as many rows of every input, got {'x': 2, 'y': 3}",
    ),
    "unknown meaning": (
        nn.Identity(),
        {"x": normal(2, 2)},
        Declaration(meanings={"y": "?"}),
        r"no input is named \['y'\], only \['x'\]",
    ),
    "weights not finite": (broken(), {"x": normal(2, 2)}, SCORES, "'weight' holds values that are"),
    "a batch size in forward": (
        Calls(lambda x: x.reshape(2, 3) * 2),
        {"x": normal(2, 3)},
        SCORES,
        "expected the first axis of 'x' to be the number of rows, whatever it is, got always 2",
    ),
    "a sum over the batch": (
        Calls(lambda x: x.sum(0)),
        {"x": normal(2, 3)},
        SCORES,
        "expected the first axis of 'scores' to be the number of rows, .* got always 3",
    ),
    "two outputs": (
        Calls(lambda x: (x * 1, x * 2)),
        {"x": normal(2, 3)},
        SCORES,
        r"the module returns 2, expected one of them to be chosen, .*: 0 \[2, 3\], 1 \[2, 3\]",
    ),
    "not traceable": (
        Calls(depends_on_values),
        {"x": normal(2, 3)},
        SCORES,
        "torch cannot export this module",
    ),
    "rows that see each other": (
        Calls(lambda x: x - x.mean(0, keepdim=True)),
        {"x": normal(2, 3)},
        SCORES,
        "a row's answer changes by .* with the rows beside it",
    ),
    "whole numbers": (
        Calls(lambda x: x.argmax(1, keepdim=True)),
        {"x": normal(2, 3)},
        SCORES,
        "expected floating point numbers, got int64",
    ),
    "not finite": (Calls(lambda x: x / 0), {"x": normal(2, 3)}, SCORES, "got NaN or infinity"),
    "undeclared logits": (
        nn.Linear(3, 2),
        {"x": 10 * normal(2, 3)},
        Declaration(task="multiclass"),
        "does the module return logits",
    ),
    "rows that do not sum to 1": (
        nn.Sequential(nn.Linear(3, 2), nn.Sigmoid()),
        {"x": normal(2, 3)},
        Declaration(task="multiclass"),
        "expected rows that sum to 1, got a sum of",
    ),
    "an activation on an activation": (
        nn.Sequential(nn.Linear(3, 2), nn.Softmax(1)),
        {"x": normal(2, 3)},
        SOFTMAX,
        "the module already ends in Softmax",
    ),
    "labels for other classes": (
        nn.Linear(3, 4),
        {"x": normal(2, 3)},
        Declaration(task="multiclass", activation="softmax", labels=("a", "b", "c")),
        "labels: the network has 4 classes, got 3 labels",
    ),
    "thresholds for other classes": (
        nn.Linear(3, 4),
        {"x": normal(2, 3)},
        Declaration(task="multilabel", activation="sigmoid", thresholds=(0.5, 0.5)),
        "thresholds: the network has 4 classes, got 2 thresholds",
    ),
    "two columns for a binary task": (
        nn.Linear(3, 2),
        {"x": normal(2, 3)},
        SIGMOID,
        r"expected an output of shape \[batch, 1\] or \[batch\], got \[batch, 2\]",
    ),
    "one column for a multiclass task": (
        nn.Linear(3, 1),
        {"x": normal(2, 3)},
        SOFTMAX,
        "at least 2 classes, got 1; for one probability declare it binary",
    ),
    "an image for a multiclass task": (
        nn.Identity(),
        {"x": normal(2, 3, 3)},
        SOFTMAX,
        r"\[batch, classes\], got \[batch, 3, 3\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_named_and_leaves_no_file(case: str, tmp_path: Path) -> None:
    module, example, declaration, message = REFUSED[case]
    with pytest.raises(ExportError, match=message):
        export(module, tmp_path / "animal/1/model.onnx", example, declaration)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_file_before_it_untouched(softmax: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in softmax.parent.rglob("*") if p.is_file()}

    before = content()
    with pytest.raises(ExportError, match="not finite"):
        export(broken(), softmax, {"x": normal(2, 2)}, SOFTMAX)
    assert content() == before


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"expected a path that ends in .onnx, got '.*model.pt'"):
        export(nn.Identity(), tmp_path / "model.pt", {"x": normal(2, 2)}, SCORES)


def test_onnx_runtime_is_told_not_to_report_its_use() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
