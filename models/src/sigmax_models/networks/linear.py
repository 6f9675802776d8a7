"""The network `linear`, one linear layer 3-2, whose answer W x + b can be checked by hand."""

import numpy as np
import torch
from torch import nn

from sigmax_models.declaration import Declaration
from sigmax_models.network import Network, Sample, Trained
from sigmax_models.progress import Progress, silent

WEIGHT = [[-0.4499, 0.4996, 0.1127], [-0.0365, -0.1955, 0.04227]]
BIAS = [0.0310, 0.15327]


def build() -> nn.Module:
    """Make the layer with its fixed weights: [rows, 3] to [rows, 2]."""
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(WEIGHT))
        layer.bias.copy_(torch.tensor(BIAS))
    return layer.eval()


def train(seed: int = 0, progress: Progress = silent) -> Trained:
    """Return the layer as it is, because its weights are fixed."""
    progress(1, 1)
    rows = np.random.default_rng(seed).normal(size=(64, 3)).astype(np.float32)
    return Trained(build(), seen=rows[:0], held_out=rows, score=None)


def unseen() -> list[Sample]:
    """Return one row, and its scores to five digits, calculated on paper."""
    row = np.array([0.3914, 0.9542, -0.2356], np.float32)
    return [Sample("0.3914, 0.9542, -0.2356", row, (0.30508, -0.05752))]


NETWORK = Network(
    name="linear",
    summary="two raw scores from three numbers",
    input="input",
    build=build,
    train=train,
    declaration=Declaration(meanings={"input": "three numbers"}, output="scores"),
    unseen=unseen,
)
