"""Seven networks, each in one file: data, module, training and declaration, in this order."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigmax_models.network import Network

# Names of the networks, from the simplest to the longest.
NAMES = ("linear", "sequential", "mammal", "animal", "digits", "language", "dtmf")


def get(name: str) -> "Network":
    """Return the network of this name.

    Raises:
        KeyError: No network has this name.
    """
    if name not in NAMES:
        raise KeyError(f"no network is named {name!r}; there are {', '.join(NAMES)}")
    network: Network = import_module(f"{__name__}.{name}").NETWORK
    return network


def all_networks() -> list["Network"]:
    """Return all networks, the simplest first."""
    return [get(name) for name in NAMES]
