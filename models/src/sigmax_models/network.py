"""The common interface of all networks."""

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
from sigmax_models.outputs import Output
from sigmax_models.progress import Progress, silent


@dataclass(frozen=True)
class Sample:
    """A row that training has not seen, with the right answer.

    Attributes:
        description: Description of the row for people, one line.
        row: Input without the batch axis.
        expected: Right label; for a network without a task, the scores.
        picture: Drawing of the row in lines of text; empty where there is none.
    """

    description: str
    row: np.ndarray
    expected: str | tuple[float, ...]
    picture: str = ""


@dataclass(frozen=True)
class Score:
    """The accuracy of a network on held-out rows.

    Attributes:
        accuracy: Share of right answers, in [0, 1].
        baseline: Share of the most frequent class, in [0, 1]: the accuracy of always answering it.
        rows: Number of held-out rows.
    """

    accuracy: float
    baseline: float
    rows: int


@dataclass(frozen=True)
class Trained:
    """A trained module, with the rows for training and for judging.

    Attributes:
        module: Module in eval mode, which returns logits.
        seen: Rows of the training, [rows, ...]; no rows where the weights are fixed.
        held_out: Rows for judging, [rows, ...].
        score: Accuracy on the held-out rows; None for a network without a task.
    """

    module: nn.Module
    seen: np.ndarray
    held_out: np.ndarray
    score: Score | None


class Train(Protocol):
    """A function that trains a module; the same seed gives the same weights."""

    def __call__(self, seed: int = 0, progress: Progress = silent) -> Trained:
        """Train and judge a module."""


@dataclass(frozen=True)
class Network:
    """A network, with the functions that make it, train it and give samples for it.

    Attributes:
        name: Name of the model in a repository.
        summary: Description of the classification, one line.
        input: Name of the only input.
        build: Function that makes the module, untrained, in eval mode, returning logits.
        train: Function that trains a module.
        declaration: Description that the file states.
        unseen: Function that returns rows that training has not seen, with the right answers.
    """

    name: str
    summary: str
    input: str
    build: Callable[[], nn.Module]
    train: Train
    declaration: Declaration
    unseen: Callable[[], list[Sample]]

    def model_path(self, repository: Path) -> Path:
        """Return the path of the ONNX file in a repository."""
        return repository / self.name / "1" / "model.onnx"

    def weights_path(self, repository: Path) -> Path:
        """Return the path of the weights in a repository, which no server reads."""
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
        """Load the trained network from its weights, with its activation, in eval mode."""
        module = self.build()
        module.load_state_dict(torch.load(weights, weights_only=True))
        output = Output(self.declaration.output, self.declaration.activation)
        return Served(module, [output]).eval()


def judge(module: nn.Module, rows: torch.Tensor, targets: torch.Tensor) -> Score:
    """Score a module on held-out rows.

    Args:
        module: Module that returns logits of shape [rows, classes], or [rows, 1] for two classes.
        rows: Inputs of shape [rows, ...].
        targets: Right classes by index, of shape [rows].
    """
    with torch.no_grad():
        logits = module(rows)
    classes = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    return Score(
        accuracy=float((classes == targets).double().mean()),
        baseline=int(targets.bincount().max()) / len(targets),
        rows=len(targets),
    )
