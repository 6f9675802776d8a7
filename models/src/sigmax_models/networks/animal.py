"""The network `animal`, linear layers 6-8-3 and a softmax: bird, mammal or reptile?"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sigmax_models.declaration import Declaration
from sigmax_models.network import Network, Sample, Trained, judge
from sigmax_models.networks import animals
from sigmax_models.progress import Progress, silent
from sigmax_models.training import Recipe, fit, repeatable


class Animal(nn.Module):
    """Six traits, eight hidden units, three logits: [rows, 6] to [rows, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = animals.Scale()
        self.hidden = nn.Linear(6, 8)
        self.answer = nn.Linear(8, len(animals.CLASSES))

    def forward(self, traits: torch.Tensor) -> torch.Tensor:
        """Return one logit for each class, FP32 [rows, 3]."""
        hidden = torch.relu(self.hidden(self.scale(traits)))
        logits: torch.Tensor = self.answer(hidden)
        return logits


def build() -> nn.Module:
    """Make the network, untrained."""
    return Animal().eval()


def train(seed: int = 0, progress: Progress = silent) -> Trained:
    """Train on three quarters of the table, and judge by the rest."""
    seen, held_out = animals.split()
    rows = torch.from_numpy(seen.traits)
    with repeatable(seed):
        module = Animal()
        module.scale.learn(rows)
        recipe = Recipe(epochs=200, batch=16, decay=0.1)
        targets = torch.from_numpy(seen.classes)
        fit(module, rows, targets, functional.cross_entropy, recipe, progress)
        right = torch.from_numpy(held_out.classes)
        score = judge(module, torch.from_numpy(held_out.traits), right)
    return Trained(module, seen.traits, held_out.traits, score)


def unseen() -> list[Sample]:
    """Return the animals that are not in the table."""
    return [
        Sample(species, np.array(traits, np.float32), kind)
        for species, traits, kind in animals.UNSEEN
    ]


NETWORK = Network(
    name="animal",
    summary="bird, mammal or reptile, from six traits",
    input="traits",
    build=build,
    train=train,
    declaration=Declaration(
        task="multiclass",
        labels=animals.CLASSES,
        activation="softmax",
        meanings={"traits": animals.MEANING},
    ),
    unseen=unseen,
)
