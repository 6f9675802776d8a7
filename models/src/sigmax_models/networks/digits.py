"""A small convolutional network that reads handwritten digits of 8 x 8 pixels."""

import numpy as np
import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import nn
from torch.nn import functional

from sigmax_models.declaration import Declaration
from sigmax_models.network import Network, Sample, Trained, judge
from sigmax_models.progress import Progress, silent
from sigmax_models.training import Recipe, fit, repeatable

LABELS = tuple("0123456789")
# Characters for a pixel's ink, which is from 0 to 16: a character for every second value.
INK = " .:-=+*#@"

# Drawings of digits, made for this file and not taken from the data.
DRAWINGS = {
    "0": (
        "  =@@=  ",
        " =@==@= ",
        " @=  =@ ",
        " @=  =@ ",
        " @=  =@ ",
        " @=  =@ ",
        " =@==@= ",
        "  =@@=  ",
    ),
    "1": (
        "   =@=  ",
        "  =@@=  ",
        " =@@@=  ",
        "   @@=  ",
        "   @@=  ",
        "   @@=  ",
        "   @@=  ",
        "  =@@@= ",
    ),
    "4": (
        "    =@  ",
        "   =@=  ",
        "  =@=   ",
        " =@= @= ",
        " @@@@@= ",
        " ===@@  ",
        "    @=  ",
        "    @=  ",
    ),
    "7": (
        " =@@@@= ",
        " =@@@@@ ",
        "     @= ",
        "  =+=@= ",
        " =@@@@@ ",
        "   =@=  ",
        "   @=   ",
        "  =@    ",
    ),
}


def read_drawing(lines: tuple[str, ...]) -> np.ndarray:
    """Convert eight lines of eight characters of INK to an image, UINT8 [8, 8]."""
    return np.array([[2 * INK.index(ink) for ink in line] for line in lines], np.uint8)


def draw(image: np.ndarray) -> str:
    """Convert an image, UINT8 [8, 8], to eight lines of text."""
    return "\n".join("".join(INK[(ink + 1) // 2] for ink in line) for line in image.tolist())


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Load the 1,797 digits of scikit-learn's `load_digits`, by 43 people.

    Returns:
        Images to train on and images to judge by, UINT8 [n, 8, 8]; their digits, INT64 [n], in the
        same order. The images to judge by are always the same quarter.
    """
    digits = load_digits()
    seen, held_out, seen_digits, held_out_digits = train_test_split(
        digits.images.astype(np.uint8),
        digits.target,
        test_size=0.25,
        stratify=digits.target,
        random_state=0,
    )
    return seen, held_out, seen_digits, held_out_digits


class Digits(nn.Module):
    """Two convolutions and a linear layer: UINT8 [rows, 8, 8] to logits [rows, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, len(LABELS)),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return one logit for each digit, FP32 [rows, 10].

        The ink, from 0 to 16, is scaled to [0, 1] here, so that callers send unscaled pixels.
        """
        logits: torch.Tensor = self.layers(image.to(torch.float32).unsqueeze(1) / 16)
        return logits


def build() -> nn.Module:
    """Make the network, untrained."""
    return Digits().eval()


def train(seed: int = 0, progress: Progress = silent) -> Trained:
    """Train on three quarters of the images, and judge by the rest."""
    seen, held_out, seen_digits, held_out_digits = map(torch.from_numpy, load())
    with repeatable(seed):
        module = Digits()
        recipe = Recipe(epochs=12, decay=0.01)
        fit(module, seen, seen_digits, functional.cross_entropy, recipe, progress)
        score = judge(module, held_out, held_out_digits)
    return Trained(module, seen.numpy(), held_out.numpy(), score)


def unseen() -> list[Sample]:
    """Return the drawn digits, and the first three held-out images."""
    drawn = [
        Sample(f"a {digit} drawn as text", read_drawing(lines), digit, "\n".join(lines))
        for digit, lines in DRAWINGS.items()
    ]
    _, images, _, digits = load()
    written = [
        Sample(f"a handwritten {digit}", image, LABELS[digit], draw(image))
        for image, digit in zip(images[:3], digits[:3], strict=True)
    ]
    return drawn + written


NETWORK = Network(
    name="digits",
    summary="handwritten digits of 8 x 8 pixels",
    input="image",
    build=build,
    train=train,
    declaration=Declaration(
        task="multiclass",
        labels=LABELS,
        activation="softmax",
        meanings={"image": "8 x 8 pixels of ink from 0 to 16, row by row from the top"},
    ),
    unseen=unseen,
)
