"""Axes besides the batch whose size a request chooses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sigmax_models import Declaration, ExportError, export
from sigmax_models.golden import golden_folders, read_tensor
from sigmax_models.parity import EXACT, answer_onnx, open_session
from torch import nn

SOFTMAX = Declaration(task="multiclass", activation="softmax")
IDS = np.random.default_rng(0).integers(0, 100, size=(64, 9))
MASK = np.ones((64, 9), np.int64)
DYNAMIC = {"ids": {1: "length"}, "mask": {1: "length"}}


class Tokens(nn.Module):
    """The mean of embedded tokens, [rows, length], where the mask is 1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(100, 8)
        self.answer = nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept = mask.unsqueeze(-1).float()
        mean = (self.embed(ids) * kept).sum(1) / kept.sum(1).clamp(min=1)
        logits: torch.Tensor = self.answer(mean)
        return logits


@pytest.mark.filterwarnings("ignore::sigmax_models.InexactWarning")
def test_a_free_axis_takes_any_size_and_golden_samples_have_two(tmp_path: Path) -> None:
    module = Tokens()
    rows = {"ids": IDS, "mask": MASK}
    written = export(module, tmp_path / "model.onnx", rows, SOFTMAX, dynamic=DYNAMIC)
    session = open_session(written.path.read_bytes())
    assert [value.shape for value in session.get_inputs()] == [["batch", "length"]] * 2
    for length in (1, 4, 9, 30):
        ids = np.resize(IDS, (3, length))
        answer = answer_onnx(session, {"ids": ids, "mask": np.ones_like(ids)})
        with torch.no_grad():
            logits = module(torch.from_numpy(ids), torch.ones(3, length))
        assert answer == pytest.approx(logits.softmax(1).numpy(), abs=EXACT)
    shapes = [
        [read_tensor(folder / f"input_{number}.pb")[1].shape for number in (0, 1)]
        for folder in golden_folders(written.path)
    ]
    assert shapes == [[(1, 9), (1, 9)], [(7, 5), (7, 5)]]


def test_scores_may_have_a_free_axis_and_classes_may_not(tmp_path: Path) -> None:
    rows = {"x": np.ones((4, 6), np.float32)}
    free = {"x": {1: "length"}}
    path = tmp_path / "model.onnx"
    written = export(nn.ReLU(), path, rows, Declaration(output="scores"), dynamic=free)
    session = open_session(written.path.read_bytes())
    assert session.get_outputs()[0].shape == ["batch", "length"]
    with pytest.raises(ExportError, match=r"as many classes for every size .* got 6 and 3"):
        export(nn.Softmax(1), path, rows, Declaration(task="multiclass"), dynamic=free)


@pytest.mark.parametrize(
    ("module", "dynamic", "message"),
    [
        (nn.ReLU(), {"y": {1: "length"}}, r"no input is named 'y', only \['x'\]"),
        (nn.ReLU(), {"x": {0: "rows"}}, r"an axis of 'x' from 1 to 1 \(the batch, 0, is .* got 0"),
        (nn.ReLU(), {"x": {2: "length"}}, "an axis of 'x' from 1 to 1 .* got 2"),
        (nn.ReLU(), {"x": {1: "batch"}}, "a name such as 'length' .* not 'batch', got 'batch'"),
        (nn.ReLU(), {"x": {1: 512}}, "a name such as 'length' .* got 512"),
        (nn.Linear(6, 2), {"x": {1: "length"}}, "expected axis 1 of 'x' to be free, got always 6"),
    ],
)
def test_axes_that_cannot_be_free_are_named(
    module: nn.Module, dynamic: Any, message: str, tmp_path: Path
) -> None:
    rows = {"x": np.ones((4, 6), np.float32)}
    with pytest.raises(ExportError, match=message):
        export(module, tmp_path / "model.onnx", rows, Declaration(), dynamic=dynamic)
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_fails_with_half_the_size_is_named(tmp_path: Path) -> None:
    rows = {"x": np.ones((64, 2, 8), np.float32)}
    module = nn.Sequential(nn.Conv1d(2, 3, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    with pytest.raises(ExportError, match=r"does not run with 'x' of shape \[64, 2, 4\]: "):
        export(module, tmp_path / "model.onnx", rows, SOFTMAX, dynamic={"x": {2: "length"}})


def test_axes_of_one_name_have_one_size_of_at_least_two(tmp_path: Path) -> None:
    rows = {"ids": IDS, "mask": MASK[:, :4]}
    with pytest.raises(ExportError, match="to have one size for 'length', got 9 and 4"):
        export(Tokens(), tmp_path / "model.onnx", rows, SOFTMAX, dynamic=DYNAMIC)
    rows = {"ids": IDS[:, :1], "mask": MASK[:, :1]}
    with pytest.raises(ExportError, match="at least 2 along 'length', got 1"):
        export(Tokens(), tmp_path / "model.onnx", rows, SOFTMAX, dynamic=DYNAMIC)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.lstm(x)[0][:, -1]
        return result


def test_an_lstm_may_be_exported_with_a_free_length_after_a_fixed_one(tmp_path: Path) -> None:
    rows = {"x": np.ones((4, 6, 3), np.float32)}
    for free in (None, {"x": {1: "length"}}):
        written = export(
            Recurrent(), tmp_path / "model.onnx", rows, Declaration(output="last"), dynamic=free
        )
    session = open_session(written.path.read_bytes())
    assert session.get_inputs()[0].shape == ["batch", "length", 3]
