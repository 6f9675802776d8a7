"""What every network offers, whatever it classifies."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from sigmax_models.declaration import Declaration
from sigmax_models.exporter import Export, export
from sigmax_models.graph import Served
from sigmax_models.progress import Progress, silent


@dataclass(frozen=True)
class Sample:
    """One row that no training has seen.

    Attributes:
        description: What it is, for people, in a line.
        row: The input without the batch axis.
        expected: The right label; the scores of a network without a task.
        picture: The row drawn as lines of text, where that helps.
    """

    description: str
    row: np.ndarray
    expected: str | tuple[float, ...]
    picture: str = ""


@dataclass(frozen=True)
class Score:
    """How well a network classifies rows it was not trained on.

    Attributes:
        accuracy: The share it gets right.
        baseline: The share that always answering the most frequent class gets right.
        rows: How many rows it was judged by.
    """

    accuracy: float
    baseline: float
    rows: int


@dataclass(frozen=True)
class Trained:
    """A trained module, and what it was trained on and judged by.

    Attributes:
        module: In eval mode; returns logits.
        seen: The rows it was trained on, [rows, ...]; none where the weights were given.
        held_out: Other rows, [rows, ...].
        score: How it did on the held-out rows; None where there is nothing to get right.
    """

    module: nn.Module
    seen: np.ndarray
    held_out: np.ndarray
    score: Score | None


class Train(Protocol):
    """Trains a module from nothing; the same seed gives the same weights."""

    def __call__(self, seed: int = 0, progress: Progress = silent) -> Trained:
        """Train and judge."""


@dataclass(frozen=True)
class Network:
    """A network: how it is made, trained, declared and asked.

    Attributes:
        name: Of the model in a repository.
        summary: What it does, in a line.
        input: The name of its one input.
        build: Makes its module, untrained, in eval mode; it returns logits.
        train: Trains one.
        declaration: What its file says of it.
        unseen: Makes rows no training has seen, with the right answers.
    """

    name: str
    summary: str
    input: str
    build: Callable[[], nn.Module]
    train: Train
    declaration: Declaration
    unseen: Callable[[], list[Sample]]

    def model_path(self, repository: Path) -> Path:
        """Its ONNX file in a repository."""
        return repository / self.name / "1" / "model.onnx"

    def weights_path(self, repository: Path) -> Path:
        """Its weights in a repository: beside the versions, where no server looks."""
        return repository / self.name / "weights.pt"

    def publish(self, trained: Trained, repository: Path) -> Export:
        """Write the ONNX file, its golden samples and the weights into a repository.

        Raises:
            ExportError: The trained module failed a check; nothing is written.
        """
        example = {self.input: trained.held_out}
        written = export(trained.module, self.model_path(repository), example, self.declaration)
        torch.save(trained.module.state_dict(), self.weights_path(repository))
        return written

    def load(self, weights: Path) -> Served:
        """The trained module from its weights: in eval mode, answering what is served."""
        module = self.build()
        module.load_state_dict(torch.load(weights, weights_only=True))
        return Served(module, self.declaration.activation).eval()


def judge(module: nn.Module, rows: torch.Tensor, targets: torch.Tensor) -> Score:
    """Score a module on held-out rows.

    Args:
        module: Gives logits of shape [rows, classes], or [rows, 1] for two classes.
        rows: Of shape [rows, ...].
        targets: The right classes, of shape [rows].
    """
    with torch.no_grad():
        logits = module(rows)
    classes = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    return Score(
        accuracy=float((classes == targets).double().mean()),
        baseline=int(targets.bincount().max()) / len(targets),
        rows=len(targets),
    )
