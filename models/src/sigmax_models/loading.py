"""Finds a module to export by its name, and checks that its weights are not random."""

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from sigmax_models.errors import ExportError


def load_module(name: str, weights: Path | None) -> nn.Module:
    """Return a module with its weights.

    Without a file of weights the object is imported twice, and weights that differ are random.
    Random weights from a seed that the object's file fixes look like trained ones.

    Args:
        name: Name as `package.module:object`, found as Python finds modules, the current folder
            included. The object is a torch module, or returns one when called.
        weights: Path of a state_dict saved with `torch.save`; None where the object has weights.

    Raises:
        ExportError: The object is not found, its weights are random, or the file does not fit it.
    """
    found = _find(name)
    if weights is not None:
        module = found if isinstance(found, nn.Module) else _make(name, found)
        _fill(module, weights)
        return module
    if not isinstance(found, nn.Module):
        raise ExportError(
            f"{name} makes a module with random weights: expected trained ones; give --weights"
        )
    if not _same_weights(found, _find(name)):
        raise ExportError(
            f"{name} has other weights each time it is imported, so they are random: expected "
            "trained ones; give --weights"
        )
    return found


def _find(name: str) -> object:
    """Import the object's file again, with other random numbers each time."""
    path, separator, attribute = name.partition(":")
    if not separator or not attribute:
        raise ExportError(f"expected MODULE:OBJECT, such as zoo:Animal, got {name!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: object = _import_afresh(path)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ExportError(f"{name}: {error}") from error
    return found


def _import_afresh(path: str) -> ModuleType:
    spec = importlib.util.find_spec(path)
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no Python module {path!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path] = module  # classes look up their own module there
    torch.seed()
    spec.loader.exec_module(module)
    return module


def _make(name: str, found: object) -> nn.Module:
    if not callable(found):
        raise ExportError(f"{name}: expected a torch module or what makes one, got {found!r}")
    try:
        made = found()
    except TypeError as error:
        raise ExportError(f"{name} cannot be called without arguments: {error}") from error
    if not isinstance(made, nn.Module):
        raise ExportError(f"{name}(): expected a torch module, got a {type(made).__name__}")
    return made


def _fill(module: nn.Module, weights: Path) -> None:
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    except (RuntimeError, TypeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise ExportError(f"{weights}: {' '.join(str(error).split()[:60])}") from error


def _same_weights(one: nn.Module, other: object) -> bool:
    if not isinstance(other, nn.Module):
        return False
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )
