"""Seven networks, each in one file: data, module, training and declaration, in this order."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigmax_models.network import Network

# Names of the networks, from the simplest to the longest.
NAMES = ("linear", "sequential", "mammal", "animal", "digits", "language", "dtmf")

# Packages of the extra `examples`, as they are imported.
_EXTRA = ("pycountry", "sklearn")


def get(name: str) -> "Network":
    """Return the network of this name.

    Raises:
        KeyError: No network has this name.
        ModuleNotFoundError: The network learns from a package that is not installed.
    """
    if name not in NAMES:
        raise KeyError(f"no network is named {name!r}; there are {', '.join(NAMES)}")
    try:
        network: Network = import_module(f"{__name__}.{name}").NETWORK
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        raise ModuleNotFoundError(
            f"the network {name!r} needs {package}, which is not installed: "
            'pip install "sigmax[examples]"',
            name=package,
        ) from error
    return network


def all_networks() -> list["Network"]:
    """Return all networks, the simplest first."""
    return [get(name) for name in NAMES]
