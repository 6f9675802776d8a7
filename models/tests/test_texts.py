"""Inputs that are declared as texts in padded UTF-8."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from sigmax_models import Declaration, ExportError, export
from sigmax_models.cli import export_main
from sigmax_models.golden import golden_folders, read_tensor
from torch import nn

TEXTS = Declaration(meanings={"text": "a name"}, encodings={"text": "utf-8"}, output="scores")


class Counts(nn.Module):
    """The number of bytes of each text, and of the capital letters among them."""

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        codes = text.to(torch.int32)
        capital = (codes >= 65) & (codes <= 90)
        return torch.stack([(codes > 0).sum(1), capital.sum(1)], 1).float()


def rows(*texts: str) -> dict[str, np.ndarray]:
    padded = b"".join(text.encode().ljust(16, b"\0") for text in texts)
    return {"text": np.frombuffer(padded, np.uint8).reshape(-1, 16)}


def stated(path: Path) -> dict[str, Any]:
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    inputs: dict[str, Any] = json.loads(entries["sigmax.inputs"])
    return inputs


def texts_of(path: Path) -> list[str]:
    arrays = [read_tensor(folder / "input_0.pb")[1] for folder in golden_folders(path)]
    return [row.tobytes().rstrip(b"\0").decode() for array in arrays for row in array]


def test_the_file_states_the_encoding_and_golden_samples_are_texts(tmp_path: Path) -> None:
    written = export(Counts(), tmp_path / "model.onnx", rows("Egypt", "Türkei", ""), TEXTS)
    assert stated(written.path) == {"text": {"meaning": "a name", "encoding": "utf-8"}}
    three = ["Egypt", "Türkei", ""]
    assert texts_of(written.path) == [three[0], *three, *three, three[0]]


def test_heads_share_the_encoding(tmp_path: Path) -> None:
    head = Declaration(task="multiclass", activation="softmax", encodings={"text": "utf-8"})
    written = export(
        Counts(),
        tmp_path / "model.onnx",
        rows("Egypt"),
        {"one": head, "two": head},
        output={"one": 0, "two": 0},
    )
    assert stated(written.path) == {"text": {"encoding": "utf-8"}}


@pytest.mark.parametrize(
    ("example", "options", "message"),
    [
        (rows("a\0b"), {}, "expected rows of 'text' to be UTF-8 and then zeros, row 0 is not"),
        (
            {"text": np.full((2, 16), 255, np.uint8)},
            {},
            "expected rows of 'text' to be UTF-8 and then zeros, row 0 is not",
        ),
        ({"text": np.ones((2, 16), np.float32)}, {}, r"as uint8 .*, got float32 \[2, 16\]"),
        (rows("a", "b"), {"dynamic": {"text": {1: "length"}}}, "with a free axis"),
        ({"x": rows("a")["text"]}, {}, r"no input is named \['text'\], only \['x'\]"),
    ],
)
def test_rows_that_are_no_texts_are_named(
    example: Any, options: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export(Counts(), tmp_path / "model.onnx", example, TEXTS, **options)


def test_another_encoding_is_refused() -> None:
    with pytest.raises(ExportError, match="encodings: expected utf-8, got 'latin-1'"):
        Declaration(encodings={"text": "latin-1"})  # type: ignore[dict-item]


def test_the_command_checks_with_random_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.py").write_text(
        "from torch import nn\n"
        "class Sums(nn.Module):\n"
        "    def forward(self, text):\n"
        "        return text.float().sum(1, keepdim=True)\n"
        "sums = Sums()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    arguments = ["names:sums", "-o", "model.onnx", "--input-shape", "text:uint8:16"]
    assert export_main([*arguments, "--encoding", "text=utf-8"]) == 0
    assert stated(tmp_path / "model.onnx") == {"text": {"encoding": "utf-8"}}
    texts = texts_of(tmp_path / "model.onnx")
    assert len(texts) == 8
    assert all(text.isalpha() and len(text) <= 16 for text in texts)
    free = ["names:sums", "-o", "free.onnx", "--input-shape", "text:uint8:length"]
    assert export_main([*free, "--encoding", "text=utf-8"]) == 1
    assert "with a fixed number of bytes, got uint8 [64, 32] with a free axis" in (
        capsys.readouterr().err
    )
