"""The table that `mammal` and `animal` learn from: six measured traits of 136 animals.

Written down from common knowledge: round, typical values of grown animals. For a reptile the
temperature is that of its body while it is active.
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

# Animals that are not in the table, to ask a trained network about.
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
    """Some animals: names, traits FP32 [animals, 6], and classes as indices into CLASSES."""

    species: list[str]
    traits: np.ndarray
    classes: np.ndarray


def load() -> Animals:
    """The whole table."""
    with (files(__package__) / "animals.csv").open(encoding="utf-8") as lines:
        _, *table = csv.reader(lines)
    return Animals(
        species=[row[0] for row in table],
        traits=np.array([row[1:-1] for row in table], np.float32),
        classes=np.array([CLASSES.index(row[-1]) for row in table]),
    )


def split() -> tuple[Animals, Animals]:
    """The animals to learn from and, always the same quarter, those to be judged by."""
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
    """Brings traits of any unit and size, [rows, 6], near to [-2, 2].

    From a mouse to a whale is a factor of millions, so each trait is first squeezed into [0, 1]:
    x / (x + median), one half for the typical animal. A logarithm would do as well, but ONNX
    Runtime's differs in the last bit with a value's place in the batch; a division does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("median", torch.ones(len(TRAITS)))
        self.register_buffer("mean", torch.zeros(len(TRAITS)))
        self.register_buffer("deviation", torch.ones(len(TRAITS)))

    def learn(self, traits: torch.Tensor) -> None:
        """Take median, mean and standard deviation from the animals to learn from."""
        self.median = traits.median(0).values
        squeezed = traits / (traits + self.median)
        self.mean = squeezed.mean(0)
        self.deviation = squeezed.std(0)

    def forward(self, traits: torch.Tensor) -> torch.Tensor:
        """Traits in their units to traits of mean 0 and deviation 1."""
        return (traits / (traits + self.median) - self.mean) / self.deviation
