"""Seven networks, each a file to read from top to bottom: data, module, training, declaration."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigmax_models.network import Network

# From the simplest to the longest.
NAMES = ("linear", "sequential", "mammal", "animal", "digits", "language", "dtmf")


def get(name: str) -> "Network":
    """A network by its name.

    Raises:
        KeyError: There is none of this name.
    """
    if name not in NAMES:
        raise KeyError(f"no network is named {name!r}; there are {', '.join(NAMES)}")
    network: Network = import_module(f"{__name__}.{name}").NETWORK
    return network


def all_networks() -> list["Network"]:
    """Every network, the simplest first."""
    return [get(name) for name in NAMES]
