"""The network `dtmf`, a convolution over samples of sound: which telephone key was pressed?

A key sounds two tones at once, one for its row and one for its column (ITU-T Q.23).
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sigmax_models.declaration import Declaration
from sigmax_models.network import Network, Sample, Trained, judge
from sigmax_models.progress import Progress, silent
from sigmax_models.training import Recipe, fit, repeatable

RATE = 8_000  # samples per second
SAMPLES = 1_600  # samples of one row: 0.2 seconds
LOW = (697.0, 770.0, 852.0, 941.0)  # Hz of each row's tone
HIGH = (1209.0, 1336.0, 1477.0, 1633.0)  # Hz of each column's tone
KEYPAD = "123A456B789C*0#D"
LABELS = tuple(KEYPAD)


def press(key: int, chance: np.random.Generator) -> np.ndarray:
    """Make the sound of a key that is pressed on a bad line, INT16 [1600].

    Both tones are off by at most 1.5 %, the deviation that receivers accept by ITU-T Q.24. The low
    tone is at most 4 dB louder and at most 8 dB softer than the high one (the twist). The peak is
    at most 30 dB below 32,000. The press lasts at least 80 ms. Noise, at least 15 dB below the
    tones, covers all samples.

    Args:
        key: index of the key in KEYPAD.
        chance: source of random numbers.
    """
    time = np.arange(SAMPLES) / RATE
    tones = np.zeros(SAMPLES)
    twist = chance.uniform(-8, 4)
    for frequency, decibels in ((LOW[key // 4], twist), (HIGH[key % 4], 0.0)):
        pitch = frequency * chance.uniform(0.985, 1.015)
        phase = chance.uniform(0, 2 * np.pi)
        tones += 10 ** (decibels / 20) * np.sin(2 * np.pi * pitch * time + phase)
    noise = chance.normal(size=SAMPLES) * 10 ** (-chance.uniform(15, 40) / 20) * tones.std()
    length = chance.uniform(0.08, 0.2)
    start = chance.uniform(0, 0.2 - length)
    sound = np.where((time >= start) & (time < start + length), tones, 0.0) + noise
    peak = 32_000 * 10 ** (-chance.uniform(0, 30) / 20)
    pcm: np.ndarray = (sound * peak / np.abs(sound).max()).round().astype(np.int16)
    return pcm


def load(count: int, seed: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Make presses of every key in turn.

    Returns:
        The sounds, INT16 [count, 1600], and the indices of their keys, INT64 [count].
    """
    chance = np.random.default_rng(seed)
    keys = np.arange(count) % len(KEYPAD)
    presses = np.stack([press(int(key), chance) for key in keys])
    return torch.from_numpy(presses), torch.from_numpy(keys)


class Dtmf(nn.Module):
    """A bank of learned filters, and linear layers over the energy that each filter passes.

    The input is INT16 [rows, 1600], the output logits, FP32 [rows, 16].
    """

    def __init__(self) -> None:
        super().__init__()
        # A filter of 128 samples lasts 16 ms, long enough to tell 697 from 770 Hz.
        self.filters = nn.Conv1d(1, 32, kernel_size=128, stride=32, bias=False)
        self.hidden = nn.Linear(32, 64)
        self.answer = nn.Linear(64, len(LABELS))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return one logit for each key; the level of the sound has no influence."""
        sound = samples.to(torch.float32).unsqueeze(1) / 32_768
        energy = self.filters(sound).square().mean(2)
        share = energy / energy.sum(1, keepdim=True).clamp(min=1e-12)
        hidden = torch.relu(self.hidden(share.sqrt()))
        logits: torch.Tensor = self.answer(hidden)
        return logits


def build() -> nn.Module:
    """Make the network, untrained."""
    return Dtmf().eval()


def train(seed: int = 0, progress: Progress = silent) -> Trained:
    """Train on 4,096 presses, and judge by 1,024 others."""
    rows, keys = load(4_096, [seed, 0])
    other_rows, other_keys = load(1_024, [seed, 1])
    with repeatable(seed):
        module = Dtmf()
        recipe = Recipe(epochs=15)
        fit(module, rows, keys, functional.cross_entropy, recipe, progress)
        score = judge(module, other_rows, other_keys)
    return Trained(module, rows.numpy(), other_rows.numpy(), score)


def unseen() -> list[Sample]:
    """Make new presses of four keys."""
    chance = np.random.default_rng(list(b"unseen"))
    return [
        Sample(f"the key {key} over a bad line", press(KEYPAD.index(key), chance), key)
        for key in "5#0A"
    ]


NETWORK = Network(
    name="dtmf",
    summary="the telephone key that was pressed",
    input="samples",
    build=build,
    train=train,
    declaration=Declaration(
        task="multiclass",
        labels=LABELS,
        activation="softmax",
        meanings={"samples": "0.2 s of sound: 16-bit PCM, 8,000 samples a second, one channel"},
    ),
    unseen=unseen,
)
