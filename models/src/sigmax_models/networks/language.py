"""The network `language`, which reads the bytes of a text: in which language is a name?"""

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

# Languages and their codes in pycountry's translations, which are from English.
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

# Countries whose names are held out in every language, and the language of each sample.
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
    """A name in one language.

    Attributes:
        text: the name, cut to 64 bytes of UTF-8.
        language: index of the language in LABELS.
        concept: English name of the thing named.
    """

    text: str
    language: int
    concept: str


def cut(text: str) -> str:
    """Return as many whole characters of a text as fit into 64 bytes of UTF-8."""
    return text.encode()[:LENGTH].decode(errors="ignore")


def encode(text: str) -> np.ndarray:
    """Return a text as UTF-8, UINT8 [64], cut to fit and padded with zeros."""
    return np.array(list(cut(text).encode().ljust(LENGTH, b"\0")), np.uint8)


def load() -> list[Name]:
    """Return the names of countries, languages, scripts and currencies, in all languages of CODES.

    Names that are the same in several languages are left out.
    """
    owners: dict[str, set[tuple[int, str]]] = {}
    for language, code in enumerate(CODES.values()):
        for domain, concept, name in _english_names():
            text = cut(_translator(domain, code)(name))
            owners.setdefault(text, set()).add((language, concept))
    # "Peru", for example, is the same in half of the languages, and so does not tell the language.
    return [Name(text, *owner) for text, (owner, *others) in owners.items() if not others]


def _english_names() -> list[tuple[str, str, str]]:
    """Return the names that pycountry translates, each as: translation domain, concept, name."""
    countries = [(item.name, name) for item in pycountry.countries for name in _names(item)]
    # Languages with a code of two letters are those that many people know by name.
    languages = [item.name for item in pycountry.languages if hasattr(item, "alpha_2")]
    return [
        *(("iso3166-1", concept, name) for concept, name in countries),
        *(("iso639-3", name, name) for name in languages),
        *(("iso15924", item.name, item.name) for item in pycountry.scripts),
        *(("iso4217", item.name, item.name) for item in pycountry.currencies),
    ]


def _names(country: Any) -> list[str]:
    """Return the short name of a country, and the official one where there is one."""
    return [country.name, *([country.official_name] if hasattr(country, "official_name") else [])]


@cache
def _translator(domain: str, code: str) -> Callable[[str], str]:
    if not code:
        return str
    return gettext.translation(domain, pycountry.LOCALES_DIR, languages=[code]).gettext


def split() -> tuple[list[Name], list[Name]]:
    """Return the names to train on and those to judge by.

    About a fifth of the concepts is held out, always the same, each with all its translations, so
    that the network cannot know `Saksa` from `Saxa`.
    """
    names = load()
    held_out = [name for name in names if _is_held_out(name.concept)]
    return [name for name in names if not _is_held_out(name.concept)], held_out


def _is_held_out(concept: str) -> bool:
    return concept in ASKED or zlib.crc32(concept.encode()) % 5 == 0


def to_tensors(names: list[Name]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the bytes of the names, UINT8 [names, 64], and their languages, INT64 [names]."""
    rows = torch.from_numpy(np.stack([encode(name.text) for name in names]))
    return rows, torch.tensor([name.language for name in names])


class Language(nn.Module):
    """An embedding of bytes, a convolution over three of them and the mean over the text.

    The input is UINT8 [rows, 64], the output logits, FP32 [rows, 10].
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 16, padding_idx=0)
        self.convolve = nn.Conv1d(16, 64, kernel_size=3, padding=1)
        self.answer = nn.Linear(64, len(LABELS))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Return one logit for each language; zeros of padding have no influence."""
        codes = text.to(torch.int32)  # the comparison below does not run on GPUs for bytes
        is_text = (codes != 0).to(torch.float32).unsqueeze(1)
        vectors = self.embed(codes).transpose(1, 2)
        features = torch.relu(self.convolve(vectors)) * is_text
        mean = features.sum(2) / is_text.sum(2).clamp(min=1)
        logits: torch.Tensor = self.answer(mean)
        return logits


def build() -> nn.Module:
    """Make the network, untrained."""
    return Language().eval()


def train(seed: int = 0, progress: Progress = silent) -> Trained:
    """Train on the names of about four fifths of the concepts, and judge by those of the rest."""
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
    """Return full names of countries that training has seen in no language."""
    asked = {
        name.concept: name  # the official name comes after the short one, and takes its place
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
        meanings={"text": "a name of at most 64 bytes"},
        encodings={"text": "utf-8"},
    ),
    unseen=unseen,
)
