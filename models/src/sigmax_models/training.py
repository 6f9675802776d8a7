"""The training loop of all networks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from sigmax_models.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyperparameters of a training.

    Attributes:
        epochs: Number of passes over all rows.
        batch: Rows of one step.
        rate: Highest learning rate of AdamW, which rises and falls once (torch's OneCycleLR).
        decay: Weight decay of AdamW, which favours simpler networks.
    """

    epochs: int
    batch: int = 64
    rate: float = 0.01
    decay: float = 0.0


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Make torch deterministic: random numbers follow from the seed, and sums have one order."""
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)


def fit(
    module: nn.Module,
    rows: torch.Tensor,
    targets: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    recipe: Recipe,
    progress: Progress = silent,
) -> None:
    """Train a module in place and leave it in eval mode.

    Args:
        module: Module that returns logits.
        rows: All inputs, of shape [rows, ...].
        targets: Targets of all rows, as `loss` takes them, of shape [rows, ...].
        loss: Loss of a batch, from its logits and its targets.
        recipe: Hyperparameters.
        progress: Function that is called after every epoch.
    """
    steps = recipe.epochs * -(-len(rows) // recipe.batch)
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    module.train()
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(rows))
        for start in range(0, len(rows), recipe.batch):
            batch = order[start : start + recipe.batch]
            optimizer.zero_grad()
            loss(module(rows[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        progress(epoch + 1, recipe.epochs)
    module.eval()
