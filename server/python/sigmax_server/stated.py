"""The `sigmax.*` values of a model: its file's metadata, and the parameters of its configuration.

docs/model-format.md describes the keys. A value is text; most texts are JSON.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from sigmax_server.graph import ContradictionError
from sigmax_server.model_config import Config
from sigmax_server.text import cut, shown

KEYS = (
    "format",
    "task",
    "labels",
    "thresholds",
    "output",
    "heads",
    "inputs",
    "rows_independent",
    "tolerance",
    "producer",
)
# What the keys in JSON are, for people who did not know.
_JSON = {
    "labels": 'a JSON list of strings such as ["no", "yes"]',
    "thresholds": "a JSON list of numbers such as [0.5]",
    "rows_independent": "true or false",
    "tolerance": "a number",
}
_MOST_TEXT = 16 * 2**20  # most characters of one value


class Stated(dict[str, str]):
    """The values by their keys, without the prefix `sigmax.`.

    A key of config.pbtxt takes the place of the file's. Keys of the file that this release does not
    know are left alone, because a later one may have written them.
    """

    def __init__(self, metadata: Mapping[str, str], config: Config) -> None:
        """Gather the values.

        Args:
            metadata: metadata of the model file.
            config: configuration of the model.

        Raises:
            ContradictionError: a value is too long, the format is not 1, or the configuration has
                a key that there is not.
        """
        super().__init__(_own(metadata))
        needs_format = bool(self)
        parameters = {
            key: value.get("string_value", "")
            for key, value in config.get("parameters", {}).items()
        }
        self.update(_own(parameters))
        if (needs_format or "format" in self) and self.get("format") != "1":
            raise ContradictionError(
                f"sigmax.format: expected 1, got {cut(self.get('format', 'none'))}"
            )
        for key in _own(parameters):
            if key not in KEYS:
                known = ", ".join(f"sigmax.{each}" for each in KEYS)
                raise ContradictionError(
                    f"model configuration: parameters: expected one of {known}; "
                    f"got {shown(f'sigmax.{key}')}"
                )
        for key, value in self.items():
            if len(value) > _MOST_TEXT:
                raise ContradictionError(
                    f"sigmax.{key}: expected at most {_MOST_TEXT} characters, got {len(value)}"
                )

    def json(self, key: str, default: Any) -> Any:
        """Return the value of a key that is written in JSON; the default where it is absent."""
        expected = _JSON.get(key, "JSON")
        return parse(f"sigmax.{key}", self[key], expected) if key in self else default

    def tolerance(self) -> float:
        """Return the most that an answer may be off from a golden sample; 1e-5 by default."""
        return number("sigmax.tolerance", self.json("tolerance", 1e-5))

    def rows_independent(self) -> bool | None:
        """Return the author's word on whether rows are independent; None where it is absent."""
        value = self.json("rows_independent", None)
        if value is not None and not isinstance(value, bool):
            text = cut(self["rows_independent"])
            raise ContradictionError(f"sigmax.rows_independent: expected true or false, got {text}")
        return value


def _own(values: Mapping[str, str]) -> dict[str, str]:
    return {
        key.removeprefix("sigmax."): value
        for key, value in values.items()
        if key.startswith("sigmax.")
    }


def parse(place: str, text: str, expected: str = "JSON") -> Any:
    """Return the value of a JSON text.

    Args:
        place: place of the text, for messages.
        text: text to parse.
        expected: what is expected there, for messages.

    Raises:
        ContradictionError: the text is no JSON; the message names the place.
    """
    try:
        value = json.loads(text)
        # JSON can hold a lone surrogate, which no UTF-8 text can.
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ContradictionError(
            f"{place}: expected text, got a lone surrogate in {shown(text)}"
        ) from None
    except RecursionError:
        raise ContradictionError(
            f"{place}: expected JSON that is not nested so deep, got {shown(text)}"
        ) from None
    except ValueError as error:
        raise ContradictionError(
            f"{place}: expected {expected}, got {shown(text)} ({error})"
        ) from None
    return value


def number(place: str, value: object) -> float:
    """Return a number of JSON as a float; a ContradictionError where it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ContradictionError(f"{place}: expected a number, got {brief(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def numbers(place: str, value: object) -> tuple[float, ...]:
    """Return the numbers of a JSON list; a ContradictionError where it is none."""
    if not isinstance(value, list) or any(
        isinstance(each, bool) or not isinstance(each, int | float) for each in value
    ):
        raise ContradictionError(f"{place}: expected a JSON list of numbers, got {brief(value)}")
    return tuple(number(place, each) for each in value)


def texts(place: str, value: object) -> tuple[str, ...]:
    """Return the strings of a JSON list; a ContradictionError where it is none."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ContradictionError(f"{place}: expected a JSON list of strings, got {brief(value)}")
    return tuple(value)


def brief(value: object) -> str:
    """Return a value of JSON as messages show it: its beginning, as JSON."""
    return cut(json.dumps(value, ensure_ascii=False))
