"""Settings and the kinds of their values: how each is written, and what each may be."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sigmax_server.address import bare

MOST_MODEL_NAME = 255  # most characters of a model's name, as of a folder's


class ConfigError(ValueError):
    """An error for a setting with a wrong value.

    Attributes:
        setting: name of the setting, such as `grpc_port`.
        problem: text that says what was expected and what came.
    """

    def __init__(self, setting: str, expected: str, came: object) -> None:
        self.setting = setting
        self.problem = f"expected {expected}, got {came!r}"
        super().__init__(f"{setting}: {self.problem}")


@dataclass(frozen=True)
class Kind:
    """A kind of value that settings have.

    Attributes:
        placeholder: the value in --help, such as "PORT".
        expected: the allowed values in errors, such as "a whole number from 0 to 65535".
        parse: converts a text to a value; raises ValueError where the text is none.
        holds: returns whether a value is allowed.
    """

    placeholder: str
    expected: str
    parse: Callable[[str], Any]
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Setting:
    """A setting, as the command line, the environment and the documents present it.

    Attributes:
        name: name of the field in `ServerConfig`, such as `grpc_port`.
        kind: kind of the value.
        default: default value, or how it is computed, as a text.
        unit: unit of the value; empty where it has none.
        meaning: description of the setting, for people.
    """

    name: str
    kind: Kind
    default: str
    unit: str
    meaning: str

    @property
    def flag(self) -> str:
        """Name of the setting on the command line, such as `--grpc-port`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Name of the setting in the environment, such as `SIGMAX_GRPC_PORT`."""
        return "SIGMAX_" + self.name.upper()

    def parse(self, text: str) -> Any:
        """Convert a text to a value of this setting; ConfigError where the text is none."""
        try:
            value = self.kind.parse(text)
        except ValueError:
            raise ConfigError(self.name, self.kind.expected, text) from None
        self.check(value)
        return value

    def check(self, value: object) -> None:
        """Raise ConfigError where the setting cannot have this value."""
        if not self.kind.holds(value):
            raise ConfigError(self.name, self.kind.expected, value)


def whole(placeholder: str, low: int, high: int) -> Kind:
    """Return the kind of whole numbers from `low` to `high`."""

    def holds(value: object) -> bool:
        return type(value) is int and low <= value <= high

    return Kind(placeholder, f"a whole number from {low} to {high}", int, holds)


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


SWITCH = Kind("true|false", "true or false", _switch, lambda value: isinstance(value, bool))
PORT = whole("PORT", 0, 65535)
COUNT = whole("N", 1, 2**31 - 1)
MICROSECONDS = whole("N", 0, 10**6)
BYTES = whole("N", 2**20, 2**50)
TEXT = Kind("TEXT", "printable text", str, lambda value: value != "" and value.isprintable())
OPTIONAL_TEXT = Kind("TEXT", TEXT.expected, str, lambda value: str(value).isprintable())
MODEL_NAME = Kind(
    "NAME",
    f"a printable name of at most {MOST_MODEL_NAME} characters, without / and ..",
    str,
    lambda value: value == "" or is_model_name(value),
)
HOST = Kind("HOST", TEXT.expected, bare, TEXT.holds)
_NUMBER = "(0|[1-9][0-9]{0,2})"
_CUDA = re.compile(f"cuda(:{_NUMBER}(,{_NUMBER})*)?")


def named_devices(text: str) -> tuple[str, ...]:
    """Return the devices that a value of `--device` names: `cuda:0,1` is cuda:0 and cuda:1.

    Returns:
        The devices, in the order given; empty for `auto`, which names none.

    Raises:
        ValueError: the text is no value of `--device`, or names a device twice.
    """
    if text in ("auto", "cpu"):
        return () if text == "auto" else ("cpu",)
    if not _CUDA.fullmatch(text):
        raise ValueError(text)
    numbers = text.removeprefix("cuda").removeprefix(":") or "0"
    devices = tuple(f"cuda:{number}" for number in numbers.split(","))
    if len(set(devices)) < len(devices):
        raise ValueError(text)
    return devices


def _names_devices(value: object) -> bool:
    try:
        return isinstance(value, str) and named_devices(value) is not None
    except ValueError:
        return False


DEVICE = Kind(
    "DEVICE",
    "auto, cpu, cuda, cuda:N, or several as cuda:0,1",
    str,
    _names_devices,
)
FILE = Kind(
    "FILE",
    "the path of a file",
    str,
    lambda value: isinstance(value, str) and "\0" not in value,
)
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "EdDSA"),
)
NAMES_OF_ALGORITHMS = Kind(
    "NAMES",
    f"names separated by commas, each of {', '.join(ALGORITHMS)}",
    str,
    lambda value: isinstance(value, str) and set(value.split(",")) <= set(ALGORITHMS),
)
LISTEN = Kind(
    "unix:PATH",
    "unix: and the path of a Unix domain socket, of 1 to 107 bytes",
    str,
    lambda value: value == "" or (value[:5] == "unix:" and 1 <= len(os.fsencode(value)) - 5 <= 107),
)
SECONDS = Kind(
    "SECONDS",
    "a finite number of seconds, 0 or more",
    float,
    lambda value: math.isfinite(value) and value >= 0,
)


OVER_ZERO_SECONDS = Kind(
    "SECONDS",
    "a finite number of seconds over 0",
    float,
    lambda value: math.isfinite(value) and value > 0,
)


def is_model_name(text: str) -> bool:
    """Return whether a model can be given this name, and be loaded by it."""
    return (
        text.strip() != ""
        and text.isprintable()
        and len(text) <= MOST_MODEL_NAME
        and "/" not in text
        and ".." not in text
    )
