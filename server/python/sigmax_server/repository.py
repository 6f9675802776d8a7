"""Finds models in repository folders of Triton's layout, and as single ONNX files."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sigmax_server import model_config, text_file
from sigmax_server._native import NativeError
from sigmax_server.graph import ContradictionError
from sigmax_server.location import Location
from sigmax_server.model_config import Config
from sigmax_server.text import plain, shown, why

MOST_LABEL_BYTES = 16 * 2**20  # most bytes of one label file
MOST_VERSIONS = 1000  # most versions of one model that are served side by side


class RepositoryError(Exception):
    """An error for paths that cannot be served as asked; the message names the paths."""


@dataclass(frozen=True)
class Found:
    """One version of one model that is to be served.

    Attributes:
        name: name of the model, for clients.
        version: number of the version, over 0.
        source: folder of the model, or the file where a single file is served.
        file: path of the ONNX file; None where there is none.
        golden: folders of golden samples, in the order of their numbers.
        problem: reason why it cannot be served, as far as its folder tells; empty where it can.
        config: model configuration, from config.pbtxt or a request; empty where there is none.
        labels: class names of each output, by the output's name, from label files of the config.
        content: content of the ONNX file, where it came with a request and is in no folder; else
            None.
        is_named: whether the name was given beside the path; else it is that of `source`.
    """

    name: str
    version: int
    source: Path
    file: Path | None = None
    golden: tuple[Path, ...] = ()
    problem: str = ""
    config: Config = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    content: bytes | None = None
    is_named: bool = False


def scan(locations: Iterable[Location], *, may_be_empty: bool = False) -> list[Found]:
    """Find every model in the given repository folders, models' folders and files, in their order.

    A repository holds `NAME/VERSION/model.onnx`. A version is a whole number over 0 without
    leading zeros; the newest version is served, or those that config.pbtxt asks for. A folder that
    is given with a name is one model: its versions, or where it has none, model.onnx in it as
    version 1. Golden samples are the folders `test_data_set_*` beside a file called model.onnx, and
    `NAME_test_data_set_*` beside any other NAME.onnx. A model that cannot be read is returned with
    its `problem`.

    Args:
        locations: repository folders, folders of one model with its name, and .onnx files.
        may_be_empty: whether a folder may hold no model (yet).

    Raises:
        RepositoryError: a folder is missing or holds no model, a path is neither a folder nor an
            .onnx file, or two models have the same name.
    """
    models: list[Found] = []
    sources: dict[str, Path] = {}
    for location in locations:
        for model in _models(location, may_be_empty=may_be_empty):
            if sources.setdefault(model.name, model.source) != model.source:
                raise RepositoryError(
                    f"expected models of different names, got {shown(model.name)} twice: "
                    f"{sources[model.name]} and {model.source}; NAME=PATH names a model"
                )
            models.append(model)
    return models


def _models(location: Location, *, may_be_empty: bool) -> list[Found]:
    path, name = location.path, location.name
    if path.is_dir():
        found = _named if name else _repository
        return found(location, may_be_empty=may_be_empty)
    if path.suffix != ".onnx":
        came = "another kind of file" if path.exists() else "nothing there"
        raise RepositoryError(f"{path}: expected a repository folder or an .onnx file, got {came}")
    return [_at(Found(name or plain(path.stem), 1, path, is_named=name != ""), path)]


def _repository(location: Location, *, may_be_empty: bool) -> list[Found]:
    """Return the models of a repository, which name themselves."""
    folder = location.path
    expected = f"{folder}: expected a repository, with models as NAME/VERSION/model.onnx, got"
    cure = f"name the model by --model-name, or as NAME={folder}"
    children = _folders(folder)
    if any(_is_version(child) and _has_model(child) for child in children):
        raise RepositoryError(
            f"{expected} a single model; serve {folder.resolve().parent} instead, or {cure}"
        )
    own = (Found(plain(child.name), _EXPECTED, child) for child in children)
    models = [model for found in own for model in _versions(found)]
    if not models and _has_model(folder):
        raise RepositoryError(
            f"{expected} a single model; serve {folder / 'model.onnx'} instead, or {cure}"
        )
    if not models and not may_be_empty:
        raise RepositoryError(f"{expected} none{_but_files(folder)}")
    return models


def _named(location: Location, *, may_be_empty: bool) -> list[Found]:
    """Return the versions to serve of the one model in a folder, by the name that was given."""
    folder = location.path
    models = _versions(Found(location.name, _EXPECTED, folder, is_named=True))
    if not models and not may_be_empty:
        raise RepositoryError(
            f"{folder}: expected the model {shown(location.name)}, as model.onnx or "
            f"1/model.onnx, got {_instead(folder)}"
        )
    return models


def _instead(folder: Path) -> str:
    """Return what a folder has that is no model, and how to serve that."""
    if others := [child.name for child in _folders(folder) if _numbers(child)]:
        return f"a repository of {shown(others)}; serve it without a name"
    if files := sorted(folder.glob("*/model.onnx")):
        return f"none but {files[0]}; serve {files[0].parent} instead"
    return f"none{_but_files(folder)}"


def _but_files(folder: Path) -> str:
    """Return the hint that a folder has .onnx files of other names; empty where it has none."""
    files = sorted(folder.glob("*.onnx"))
    return f" but .onnx files; name them one by one, such as {files[0]}" if files else ""


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a repository that may be models, by their names."""
    return sorted(child for child in folder.iterdir() if _may_be_model(child))


def _may_be_model(path: Path) -> bool:
    # "lost+found" is in the root of every ext4 volume, and only the superuser may read it.
    return path.is_dir() and not path.name.startswith(".") and path.name != "lost+found"


def _versions(found: Found) -> list[Found]:
    """Return the versions to serve of a model's folder; none where the folder is no model's."""
    folder = found.source
    try:
        versions = _numbers(folder)
        file = folder / "config.pbtxt"
        has_config = file in folder.iterdir()
        if not versions and not _strays(found) and not has_config:
            return []
        found = replace(found, version=max(versions, default=_EXPECTED))
        config = model_config.read(file, found.name) if has_config else {}
        return _configured(found, config)
    # Any fault of one model leaves the other models alone.
    except Exception as error:
        return [replace(found, problem=why(error))]


def _strays(found: Found) -> list[Path]:
    """Return the files model.onnx of a model's folder that are in no version's folder."""
    folder = found.source
    own = [folder / "model.onnx"] if _has_model(folder) else []
    # A folder that was named may also be a repository, whose files are of other models.
    return own if found.is_named else [*own, *sorted(folder.glob("*/model.onnx"))]


def _places(found: Found) -> dict[int, Path]:
    """Return the folder with the files of each version of a model.

    Raises:
        ContradictionError: the model has no version.
    """
    folder = found.source
    if numbers := _numbers(folder):
        return {number: folder / str(number) for number in numbers}
    if found.is_named:
        return {_EXPECTED: folder}
    came = ", ".join(str(stray.relative_to(folder)) for stray in _strays(found)) or "none"
    raise ContradictionError(
        f"expected a version in {folder}: a folder named by a whole number over 0 without "
        f"leading zeros, such as 1, that holds model.onnx; got {came}"
    )


def _numbers(folder: Path) -> list[int]:
    return [int(child.name) for child in folder.iterdir() if _is_version(child)]


def reconfigured(models: list[Found], config: Config) -> list[Found]:
    """Return the versions to serve of a model with another configuration than its own.

    Args:
        models: the versions that `scan` has found of one model, at least one.
        config: the configuration that takes the place of config.pbtxt.

    Raises:
        ContradictionError: the configuration names files that cannot be read.
    """
    first = models[0]
    # The search begins anew: a version that is missing must not be served from another's file.
    found = Found(first.name, first.version, first.source, is_named=first.is_named)
    if first.source.is_dir():
        return _configured(found, config)
    folder = first.source.parent
    name = config.get("default_model_filename") or first.source.name
    file = first.source if name == first.source.name else folder / name
    labels = _labels(config, lambda path: _text(folder, path))
    found = replace(found, version=1, config=config, labels=labels)
    return [
        _at(found, file)
        if each == 1 and file == first.source
        else replace(found, version=each, problem=f"there is no file {name} of version {each}")
        for each in _policy(config, [1])
    ]


def uploaded(name: str, config: Config, files: Mapping[str, bytes]) -> list[Found]:
    """Return the versions to serve of a model whose files came with a request.

    Args:
        name: name of the model.
        config: configuration of the model; empty where the request has none.
        files: contents of the files, by their paths in the model's folder.

    Raises:
        ContradictionError: no file is in a version's folder, or the configuration names a label
            file that is missing.
    """
    texts = {path: content for path, content in files.items() if "/" not in path}
    file = config.get("default_model_filename") or "model.onnx"
    versions = [
        int(folder)
        for folder, slash, _ in (path.partition("/") for path in files)
        if slash and _is_number(folder)
    ]
    if not versions:
        raise ContradictionError(
            f"expected a file such as 1/{file}, got {shown(sorted(files)) if files else 'none'}"
        )
    source = Path(name)
    labels = _labels(config, lambda path: text_file.decoded(texts[path]))
    found = Found(name, 1, source, config=config, labels=labels)
    return [
        replace(found, version=each, content=files[path], file=source / path)
        if (path := f"{each}/{file}") in files
        else replace(found, version=each, problem=f"there is no file {path}")
        for each in _policy(config, sorted(set(versions)))
    ]


def _configured(found: Found, config: Config) -> list[Found]:
    """Return the versions to serve of a model's folder; ContradictionError where it has none."""
    places = _places(found)
    labels = _labels(config, lambda path: _text(found.source, path))
    found = replace(found, config=config, labels=labels)
    name = config.get("default_model_filename") or "model.onnx"
    return [
        _at(replace(found, version=each), places.get(each, found.source / str(each)) / name)
        for each in _policy(config, list(places))
    ]


def _text(folder: Path, file: str) -> str:
    return text_file.read(folder / file, MOST_LABEL_BYTES)


def _at(found: Found, file: Path) -> Found:
    """Return `found` with this file, or with the problem where the file is missing."""
    if not found.is_named and not found.source.name.isprintable():
        return replace(found, problem=f"expected a printable name, got {shown(str(found.source))}")
    try:
        file.stat()
        return replace(found, file=file, golden=golden_folders(file))
    except FileNotFoundError:
        return replace(found, problem=_missing(file))
    except (OSError, ValueError) as error:
        return replace(found, problem=why(error))


def _missing(file: Path) -> str:
    """Return the reason why a file cannot be found."""
    if file.is_symlink():
        return f"{file} is a link to {file.readlink()}, which is missing"
    return f"there is no file {file}"


def _policy(config: Config, versions: list[int]) -> list[int]:
    """Return the versions that the version_policy names, those that are missing included.

    Args:
        config: configuration with the version_policy.
        versions: versions that are there.
    """
    policy = config.get("version_policy", {})
    if "all" in policy:
        asked = sorted(versions)
    elif "specific" in policy:
        asked = sorted(set(policy["specific"].get("versions", ())))
    else:
        count = policy.get("latest", {}).get("num_versions", 0)
        asked = sorted(versions)[-max(count, 1) :]
    if len(asked) > MOST_VERSIONS:
        raise ContradictionError(
            f"version_policy: expected at most {MOST_VERSIONS} versions, got {len(asked)}"
        )
    return asked


def _labels(config: Config, read: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """Return the class names of each output with a label file, which has one name in each line."""
    labels = {}
    for output in config.get("output", ()):
        if file := output.get("label_filename"):
            labels[output.get("name", "")] = _lines(file, read)
    return labels


def _lines(file: str, read: Callable[[str], str]) -> tuple[str, ...]:
    """Return the lines of a label file; ContradictionError names the file."""
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise ContradictionError(
            f"label_filename: expected a file in the model's folder, got {shown(file)}"
        )
    try:
        return text_file.lines(read(file))
    except KeyError:
        problem = "there is no such file"
    except (ValueError, NativeError, ContradictionError) as error:
        problem = why(error)
    raise ContradictionError(f"label_filename: {shown(file)}: {problem}")


# The version under which clients see a model without any version, as failed.
_EXPECTED = 1


def _is_version(path: Path) -> bool:
    # Versions are 64-bit numbers in Triton, which ignores other folders, such as "01" and "backup".
    return _is_number(path.name) and path.is_dir()


def _has_model(folder: Path) -> bool:
    # A link that leads nowhere counts, too: serving it will report the reason.
    return os.path.lexists(folder / "model.onnx")


def _is_number(text: str) -> bool:
    return re.fullmatch("[1-9][0-9]{0,18}", text) is not None and int(text) < 2**63


def golden_folder(file: Path, number: int) -> Path:
    """Return the folder of a model file's golden sample of this number."""
    prefix = "" if file.name == "model.onnx" else f"{file.stem}_"
    return file.parent / f"{prefix}test_data_set_{number}"


def golden_folders(file: Path) -> tuple[Path, ...]:
    """Return the folders of a model file's golden samples, in the order of their numbers."""
    prefix = golden_folder(file, 0).name.removesuffix("0")
    numbers = (
        int(child.name.removeprefix(prefix))
        for child in file.parent.iterdir()
        if child.name.startswith(prefix) and child.name.removeprefix(prefix).isdecimal()
    )
    return tuple(golden_folder(file, number) for number in sorted(numbers))
