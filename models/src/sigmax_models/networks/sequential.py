"""The network `sequential`, linear layers 10-18-20-5: five classes of points in ten dimensions."""

import numpy as np
import torch
from sklearn.datasets import make_classification  # type: ignore[import-untyped]
from torch import nn
from torch.nn import functional

from sigmax_models.declaration import Declaration
from sigmax_models.network import Network, Sample, Trained, judge
from sigmax_models.progress import Progress, silent
from sigmax_models.training import Recipe, fit, repeatable

LABELS = ("a", "b", "c", "d", "e")


def load() -> tuple[np.ndarray, np.ndarray]:
    """Make 2,500 points in clusters around the corners of a cube, always the same.

    Returns:
        The points, FP32 [2500, 10], and their classes, INT64 [2500]. The last fifth is for judging.
    """
    rows, classes = make_classification(
        n_samples=2_500,
        n_features=10,
        n_informative=8,
        n_redundant=1,
        n_classes=len(LABELS),
        n_clusters_per_class=1,
        class_sep=2.0,
        random_state=0,
    )
    return rows.astype(np.float32), classes


def build() -> nn.Module:
    """Make the layers, untrained, with ReLUs between; without these they would equal one layer."""
    return nn.Sequential(
        nn.Linear(10, 18), nn.ReLU(), nn.Linear(18, 20), nn.ReLU(), nn.Linear(20, len(LABELS))
    ).eval()


def train(seed: int = 0, progress: Progress = silent) -> Trained:
    """Train on the first four fifths of the points, and judge by the last fifth."""
    rows, classes = map(torch.from_numpy, load())
    with repeatable(seed):
        module = build()
        recipe = Recipe(epochs=20)
        fit(module, rows[:2_000], classes[:2_000], functional.cross_entropy, recipe, progress)
        score = judge(module, rows[2_000:], classes[2_000:])
    return Trained(module, rows[:2_000].numpy(), rows[2_000:].numpy(), score)


def unseen() -> list[Sample]:
    """Return the first three points of the last fifth."""
    rows, classes = load()
    return [
        Sample(f"point {row} of the held-out fifth", rows[row], LABELS[classes[row]])
        for row in range(2_000, 2_003)
    ]


NETWORK = Network(
    name="sequential",
    summary="five classes of points in ten dimensions",
    input="features",
    build=build,
    train=train,
    declaration=Declaration(
        task="multiclass",
        labels=LABELS,
        activation="softmax",
        meanings={"features": "a point's ten coordinates"},
    ),
    unseen=unseen,
)
