"""The table that `mammal` and `animal` learn from: six traits of 136 animals.

The values are from common knowledge: round and typical for grown animals. A reptile's temperature
is that of its body while the animal is active.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import nn

TRAITS = (
    "body mass in kg",
    "body length in cm",
    "body temperature in degrees Celsius",
    "young in a litter or clutch",
    "days of gestation or incubation",
    "life span in years",
)
MEANING = f"six traits: {', '.join(TRAITS)}"
CLASSES = ("bird", "mammal", "reptile")

# Animals that are not in the table, for trying a trained network: name, traits, class.
UNSEEN = (
    ("Eurasian lynx", (22, 100, 38, 3, 70, 15), "mammal"),
    ("Wild boar", (90, 140, 38.5, 6, 115, 10), "mammal"),
    ("Eurasian eagle-owl", (2.5, 67, 40.5, 3, 34, 20), "bird"),
    ("Eurasian jay", (0.17, 34, 41.5, 5, 17, 6), "bird"),
    ("Spectacled caiman", (30, 180, 30, 25, 80, 35), "reptile"),
    ("Green iguana", (4, 150, 34, 35, 90, 15), "reptile"),
)


@dataclass(frozen=True)
class Animals:
    """Rows of the table.

    Attributes:
        species: names of the animals.
        traits: traits in the order and the units of TRAITS, FP32 [animals, 6].
        classes: classes as indices into CLASSES, INT64 [animals].
    """

    species: list[str]
    traits: np.ndarray
    classes: np.ndarray


def load() -> Animals:
    """Read the whole table."""
    with (files(__package__) / "animals.csv").open(encoding="utf-8") as lines:
        _, *table = csv.reader(lines)
    return Animals(
        species=[row[0] for row in table],
        traits=np.array([row[1:-1] for row in table], np.float32),
        classes=np.array([CLASSES.index(row[-1]) for row in table]),
    )


def split() -> tuple[Animals, Animals]:
    """Return the animals to train on and those to judge by, which are always the same quarter."""
    table = load()
    parts = train_test_split(
        np.arange(len(table.species)), test_size=0.25, stratify=table.classes, random_state=0
    )
    seen, held_out = (
        Animals([table.species[i] for i in part], table.traits[part], table.classes[part])
        for part in parts
    )
    return seen, held_out


class Scale(nn.Module):
    """Scales traits of any unit and size, [rows, 6], to about [-2, 2].

    A mouse and a whale differ by a factor of millions. Each trait x is therefore first squeezed
    into [0, 1] by x / (x + median), which is one half for the typical animal, and then standardised
    to mean 0 and deviation 1. A logarithm would serve as well, but the last bit of ONNX Runtime's
    logarithm depends on a value's place in the batch; that of a division does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("median", torch.ones(len(TRAITS)))
        self.register_buffer("mean", torch.zeros(len(TRAITS)))
        self.register_buffer("deviation", torch.ones(len(TRAITS)))

    def learn(self, traits: torch.Tensor) -> None:
        """Take median, mean and standard deviation from the animals to train on, [rows, 6]."""
        self.median = traits.median(0).values
        squeezed = traits / (traits + self.median)
        self.mean = squeezed.mean(0)
        self.deviation = squeezed.std(0)

    def forward(self, traits: torch.Tensor) -> torch.Tensor:
        """Scale traits in their units, [rows, 6], to traits of mean 0 and deviation 1."""
        return (traits / (traits + self.median) - self.mean) / self.deviation
