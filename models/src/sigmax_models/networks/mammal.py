"""The network `mammal`, linear layers 6-4-1 and a sigmoid: is an animal a mammal?"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sigmax_models.declaration import Declaration
from sigmax_models.network import Network, Sample, Trained, judge
from sigmax_models.networks import animals
from sigmax_models.progress import Progress, silent
from sigmax_models.training import Recipe, fit, repeatable

LABELS = ("not-mammal", "mammal")
MAMMAL = animals.CLASSES.index("mammal")


class Mammal(nn.Module):
    """Six traits, four hidden units, one logit: [rows, 6] to [rows, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = animals.Scale()
        self.hidden = nn.Linear(6, 4)
        self.answer = nn.Linear(4, 1)

    def forward(self, traits: torch.Tensor) -> torch.Tensor:
        """Return the logit of being a mammal, FP32 [rows, 1]."""
        hidden = torch.relu(self.hidden(self.scale(traits)))
        logits: torch.Tensor = self.answer(hidden)
        return logits


def build() -> nn.Module:
    """Make the network, untrained."""
    return Mammal().eval()


def train(seed: int = 0, progress: Progress = silent) -> Trained:
    """Train on three quarters of the table, and judge by the rest."""
    seen, held_out = animals.split()
    rows = torch.from_numpy(seen.traits)
    targets = torch.from_numpy(seen.classes == MAMMAL).float().unsqueeze(1)
    with repeatable(seed):
        module = Mammal()
        module.scale.learn(rows)
        recipe = Recipe(epochs=200, batch=16, decay=0.1)
        fit(module, rows, targets, functional.binary_cross_entropy_with_logits, recipe, progress)
        right = torch.from_numpy(held_out.classes == MAMMAL).long()
        score = judge(module, torch.from_numpy(held_out.traits), right)
    return Trained(module, seen.traits, held_out.traits, score)


def unseen() -> list[Sample]:
    """Return the animals that are not in the table."""
    return [
        Sample(species, np.array(traits, np.float32), LABELS[kind == "mammal"])
        for species, traits, kind in animals.UNSEEN
    ]


NETWORK = Network(
    name="mammal",
    summary="is it a mammal? from six traits of an animal",
    input="traits",
    build=build,
    train=train,
    declaration=Declaration(
        task="binary",
        labels=LABELS,
        thresholds=(0.5,),
        activation="sigmoid",
        meanings={"traits": animals.MEANING},
    ),
    unseen=unseen,
)
