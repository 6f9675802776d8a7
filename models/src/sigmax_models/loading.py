"""Finds a module to export by its name, and checks that its weights are not random."""

import importlib.util
import pickle
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from sigmax_models.errors import ExportError, ExportNotice
from sigmax_models.modules import as_module, first_line, refuse_kinds

# Entries under which training loops save the weights beside the state of the training.
_ENTRIES = ("state_dict", "model_state_dict", "model", "module", "net", "weights")


def load_module(name: str, weights: Path | None) -> nn.Module:
    """Return a module with its weights.

    Without a file of weights the object is imported twice, and weights that differ are random.
    Random weights from a seed that the object's file fixes look like trained ones.

    Args:
        name: Name as `package.module:object`, found as Python finds modules, the current folder
            included. The object is a torch module, or returns one when called.
        weights: Path of a file saved with `torch.save`; None where the object has weights. The file
            holds a state_dict, or a dict that has one under a usual name such as `model`. A prefix
            that all names have, such as `module.`, is left out where the module has none.

    Raises:
        ExportError: The object is not found, its weights are random, or the file does not fit it.

    Warns:
        ExportNotice: The weights were found in an entry of the file, or had a prefix.
    """
    found = _find(name)
    makes = callable(found) and not isinstance(found, nn.Module)
    if weights is not None:
        module = _as_module(name, _make(name, found) if makes else found)
        _fill(module, weights)
        return module
    if makes:
        raise ExportError(
            f"{name} makes a module with random weights: expected trained ones; give --weights"
        )
    module = _as_module(name, found)
    refuse_kinds(module)
    if not _same_weights(module, _find(name)):
        raise ExportError(
            f"{name} has other weights each time it is imported, so they are random: expected "
            "trained ones; give --weights"
        )
    return module


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
    except Exception as error:  # the file is another's, and raises what it likes
        raise ExportError(f"{name}: {type(error).__name__}: {first_line(error)}") from error
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


def _make(name: str, found: Any) -> object:
    try:
        return found()
    except Exception as error:  # the object is another's, and raises what it likes
        raise ExportError(
            f"{name} cannot be called without arguments: {first_line(error)}"
        ) from error


def _as_module(name: str, found: object) -> nn.Module:
    try:
        return as_module(found)
    except ExportError as error:
        raise ExportError(f"{name}: {error}") from error


def _fill(module: nn.Module, weights: Path) -> None:
    state = _without_prefix(_find_state(_read(weights), weights), module, weights)
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ExportError(f"{weights}: {' '.join(str(error).split()[:60])}") from error


def _read(weights: Path) -> object:
    """Read a file of torch.save without running code from it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(weights, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        text = str(error)
        if "TorchScript" in text:
            raise ExportError(
                f"{weights}: a file of TorchScript: save its weights alone, "
                "torch.save(torch.jit.load(FILE).state_dict(), OTHER)"
            ) from error
        if held := re.search(r"GLOBAL (\S+)", text):
            raise ExportError(
                f"{weights}: holds a {held[1]} beside weights, and reading that runs code from the "
                "file: save the weights alone, torch.save(module.state_dict(), FILE)"
            ) from error
        raise ExportError(
            f"{weights}: expected a state_dict saved with torch.save(module.state_dict(), FILE), "
            "got a file of another format, or a damaged one"
        ) from error


def _find_state(loaded: object, weights: Path) -> dict[str, Any]:
    """Return the state_dict that was loaded, or the one in an entry of what was loaded."""
    if not isinstance(loaded, Mapping):
        raise ExportError(f"{weights}: expected a state_dict, got a {type(loaded).__name__}")
    for entry in _ENTRIES:
        if isinstance(loaded.get(entry), Mapping):
            _note(f"{weights}: the weights are those of its entry {entry!r}")
            return dict(loaded[entry])
    names_weights = all(isinstance(name, str) for name in loaded)
    has_weights = any(isinstance(value, torch.Tensor) for value in loaded.values())
    if loaded and not (names_weights and has_weights):
        raise ExportError(
            f"{weights}: expected a state_dict, or a dict with one as 'state_dict' or 'model', "
            f"got a dict of {', '.join(map(repr, list(loaded)[:8]))}"
        )
    return dict(loaded)


def _without_prefix(state: dict[str, Any], module: nn.Module, weights: Path) -> dict[str, Any]:
    """Return the weights without the prefix that a wrapper has given to all their names."""
    wanted = list(module.state_dict())
    if not wanted or wanted[0] in state:
        return state
    for name in state:
        prefix = name.removesuffix(wanted[0])
        if prefix != name and set(state) == {prefix + each for each in wanted}:
            _note(f"{weights}: the prefix {prefix!r} of all names was left out")
            return {each: state[prefix + each] for each in wanted}
    return state


def _note(text: str) -> None:
    warnings.warn(text, ExportNotice, stacklevel=2)


def _same_weights(one: nn.Module, other: object) -> bool:
    if not isinstance(other, nn.Module):
        return False
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )
