"""Which language is a name in? A network that reads the bytes of a text."""

import gettext
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pycountry
import torch
from torch import nn
from torch.nn import functional

from sigmax_models.declaration import Declaration
from sigmax_models.network import Network, Sample, Trained, judge
from sigmax_models.progress import Progress, silent
from sigmax_models.training import Recipe, fit, repeatable

# Each language and its code in pycountry's translations; English is what they translate from.
CODES = {
    "English": "",
    "Finnish": "fi",
    "French": "fr",
    "German": "de",
    "Greek": "el",
    "Hungarian": "hu",
    "Japanese": "ja",
    "Polish": "pl",
    "Russian": "ru",
    "Vietnamese": "vi",
}
LABELS = tuple(CODES)
LENGTH = 64

# Countries whose names are held out in every language, and the language to ask each one in.
ASKED = {
    "Egypt": "Hungarian",
    "Germany": "German",
    "Iceland": "Finnish",
    "New Zealand": "Russian",
    "Norway": "French",
    "Spain": "Vietnamese",
    "Switzerland": "Polish",
    "Thailand": "Greek",
    "Turkmenistan": "Japanese",
    "United Kingdom": "English",
}


@dataclass(frozen=True)
class Name:
    """A name in one language; `concept` is what it names, in English."""

    text: str
    language: int
    concept: str


def cut(text: str) -> str:
    """As many whole characters of a text as fit into 64 bytes of UTF-8."""
    return text.encode()[:LENGTH].decode(errors="ignore")


def encode(text: str) -> np.ndarray:
    """A text as UTF-8, UINT8 [64]: cut to fit, padded with zeros."""
    return np.array(list(cut(text).encode().ljust(LENGTH, b"\0")), np.uint8)


def load() -> list[Name]:
    """Names of countries, languages, scripts and currencies that differ between languages."""
    owners: dict[str, set[tuple[int, str]]] = {}
    for language, code in enumerate(CODES.values()):
        for domain, concept, name in _english_names():
            text = cut(_translator(domain, code)(name))
            owners.setdefault(text, set()).add((language, concept))
    # "Peru" is the same in half of them: such a name tells nothing about the language.
    return [Name(text, *owner) for text, (owner, *others) in owners.items() if not others]


def _english_names() -> list[tuple[str, str, str]]:
    """What pycountry translates: the domain of the translation, a concept, a name of it."""
    countries = [(item.name, name) for item in pycountry.countries for name in _names(item)]
    # The languages with a code of two letters: those that many people know by name.
    languages = [item.name for item in pycountry.languages if hasattr(item, "alpha_2")]
    return [
        *(("iso3166-1", concept, name) for concept, name in countries),
        *(("iso639-3", name, name) for name in languages),
        *(("iso15924", item.name, item.name) for item in pycountry.scripts),
        *(("iso4217", item.name, item.name) for item in pycountry.currencies),
    ]


def _names(country: Any) -> list[str]:
    """The short name of a country, and the official one where it has one."""
    return [country.name, *([country.official_name] if hasattr(country, "official_name") else [])]


@cache
def _translator(domain: str, code: str) -> Callable[[str], str]:
    if not code:
        return str
    return gettext.translation(domain, pycountry.LOCALES_DIR, languages=[code]).gettext


def split() -> tuple[list[Name], list[Name]]:
    """The names to learn from and those to be judged by.

    About a fifth is held out, the same every time, and with a name all its translations: the
    network cannot know `Saksa` from `Saxa`.
    """
    names = load()
    held_out = [name for name in names if _is_held_out(name.concept)]
    return [name for name in names if not _is_held_out(name.concept)], held_out


def _is_held_out(concept: str) -> bool:
    return concept in ASKED or zlib.crc32(concept.encode()) % 5 == 0


def to_tensors(names: list[Name]) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes, UINT8 [names, 64], and languages, INT64 [names]."""
    rows = torch.from_numpy(np.stack([encode(name.text) for name in names]))
    return rows, torch.tensor([name.language for name in names])


class Language(nn.Module):
    """Bytes to vectors, a convolution over three of them, the mean: UINT8 [rows, 64] to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 16, padding_idx=0)
        self.convolve = nn.Conv1d(16, 64, kernel_size=3, padding=1)
        self.answer = nn.Linear(64, len(LABELS))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """One logit a language; the padding counts for nothing."""
        codes = text.to(torch.int32)  # of bytes, GPUs have no comparison
        is_text = (codes != 0).to(torch.float32).unsqueeze(1)
        vectors = self.embed(codes).transpose(1, 2)
        features = torch.relu(self.convolve(vectors)) * is_text
        mean = features.sum(2) / is_text.sum(2).clamp(min=1)
        logits: torch.Tensor = self.answer(mean)
        return logits


def build() -> nn.Module:
    """The network, untrained."""
    return Language().eval()


def train(seed: int = 0, progress: Progress = silent) -> Trained:
    """Train on the names of four fifths of everything, judge by the names of the rest."""
    seen, held_out = split()
    rows, languages = to_tensors(seen)
    other_rows, other_languages = to_tensors(held_out)
    with repeatable(seed):
        module = Language()
        recipe = Recipe(epochs=15, rate=0.02, decay=0.05)
        fit(module, rows, languages, functional.cross_entropy, recipe, progress)
        score = judge(module, other_rows, other_languages)
    return Trained(module, rows.numpy(), other_rows.numpy(), score)


def unseen() -> list[Sample]:
    """The full names of countries, none of which was seen in any language."""
    asked = {
        name.concept: name  # the official name comes after the short one
        for name in load()
        if ASKED.get(name.concept) == LABELS[name.language]
    }
    return [Sample(name.text, encode(name.text), LABELS[name.language]) for name in asked.values()]


NETWORK = Network(
    name="language",
    summary="the language that a country's name is in",
    input="text",
    build=build,
    train=train,
    declaration=Declaration(
        task="multiclass",
        labels=LABELS,
        activation="softmax",
        meanings={"text": "UTF-8 bytes, padded with zeros to 64"},
    ),
    unseen=unseen,
)
