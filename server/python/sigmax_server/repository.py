"""Finds models in repository folders of Triton's layout, and as single ONNX files."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sigmax_server import model_config
from sigmax_server._native import NativeError, read_file
from sigmax_server.graph import ContradictionError
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


def scan(paths: Iterable[Path], *, may_be_empty: bool = False) -> list[Found]:
    """Find every model in the given repository folders and files, in their order.

    A repository holds `NAME/VERSION/model.onnx`. A version is a whole number over 0 without
    leading zeros; the newest version is served, or those that config.pbtxt asks for. Golden samples
    are the folders `test_data_set_*` beside a file called model.onnx, and `NAME_test_data_set_*`
    beside any other NAME.onnx. A model that cannot be read is returned with its `problem`.

    Args:
        paths: repository folders and .onnx files.
        may_be_empty: whether a folder may hold no model (yet).

    Raises:
        RepositoryError: a folder is missing or holds no model, an argument is neither a folder
            nor an .onnx file, or two models have the same name.
    """
    models: list[Found] = []
    sources: dict[str, Path] = {}
    for path in paths:
        for model in _models(path, may_be_empty=may_be_empty):
            if sources.setdefault(model.name, model.source) != model.source:
                raise RepositoryError(
                    f"expected models of different names, got {shown(model.name)} twice: "
                    f"{sources[model.name]} and {model.source}"
                )
            models.append(model)
    return models


def _models(path: Path, *, may_be_empty: bool) -> list[Found]:
    if path.is_dir():
        return _repository(path, may_be_empty=may_be_empty)
    if path.suffix != ".onnx":
        came = "another kind of file" if path.exists() else "nothing there"
        raise RepositoryError(f"{path}: expected a repository folder or an .onnx file, got {came}")
    return [_at(Found(plain(path.stem), 1, path), path)]


def _repository(folder: Path, *, may_be_empty: bool) -> list[Found]:
    expected = f"{folder}: expected a repository, with models as NAME/VERSION/model.onnx, got"
    children = sorted(child for child in folder.iterdir() if _may_be_model(child))
    if any(_is_version(child) and _has_model(child) for child in children):
        raise RepositoryError(f"{expected} a single model; serve {folder.resolve().parent} instead")
    models = [model for child in children for model in _versions(child)]
    if not models and not may_be_empty:
        files = sorted(folder.glob("*.onnx"))
        hint = f" but .onnx files; name them one by one, such as {files[0]}" if files else ""
        raise RepositoryError(f"{expected} none{hint}")
    return models


def _may_be_model(path: Path) -> bool:
    # "lost+found" is in the root of every ext4 volume, and only the superuser may read it.
    return path.is_dir() and not path.name.startswith(".") and path.name != "lost+found"


def _versions(folder: Path) -> list[Found]:
    """Return the versions to serve of a model's folder; none where the folder is no model's."""
    found = Found(plain(folder.name), _EXPECTED, folder)
    try:
        versions = _numbers(folder)
        file = folder / "config.pbtxt"
        has_config = file in folder.iterdir()
        strays = [*folder.glob("model.onnx"), *sorted(folder.glob("*/model.onnx"))]
        if not versions and not strays and not has_config:
            return []
        found = replace(found, version=max(versions, default=_EXPECTED))
        if not versions:
            came = ", ".join(str(stray.relative_to(folder)) for stray in strays) or "none"
            raise ContradictionError(
                f"expected a version in {folder}: a folder named by a whole number over 0 without "
                f"leading zeros, such as 1, that holds model.onnx; got {came}"
            )
        config = model_config.read(file, folder.name) if has_config else {}
        return _configured(found, config)
    # Any fault of one model leaves the other models alone.
    except Exception as error:
        return [replace(found, problem=why(error))]


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
    found = Found(first.name, first.version, first.source)
    if first.source.is_dir():
        return _configured(found, config)
    name = config.get("default_model_filename") or first.source.name
    file = first.source if name == first.source.name else first.source.parent / name
    found = replace(found, version=1, config=config)
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
    labels = _labels(config, lambda path: texts[path].decode())
    found = Found(name, 1, source, config=config, labels=labels)
    return [
        replace(found, version=each, content=files[path], file=source / path)
        if (path := f"{each}/{file}") in files
        else replace(found, version=each, problem=f"there is no file {path}")
        for each in _policy(config, sorted(set(versions)))
    ]


def _configured(found: Found, config: Config) -> list[Found]:
    labels = _labels(config, lambda path: _text(found.source, path))
    found = replace(found, config=config, labels=labels)
    name = config.get("default_model_filename") or "model.onnx"
    return [
        _at(replace(found, version=each), found.source / str(each) / name)
        for each in _policy(config, _numbers(found.source))
    ]


def _text(folder: Path, file: str) -> str:
    if not (folder / file).resolve().is_relative_to(folder.resolve()):
        raise ContradictionError(f"label_filename: expected a file in {folder}, got {shown(file)}")
    return read_file(folder / file, MOST_LABEL_BYTES).decode()


def _at(found: Found, file: Path) -> Found:
    """Return `found` with this file, or with the problem where the file is missing."""
    if not found.source.name.isprintable():
        return replace(found, problem=f"expected a printable name, got {shown(str(found.source))}")
    try:
        file.lstat()
        return replace(found, file=file, golden=_golden(file))
    except FileNotFoundError:
        return replace(found, problem=f"there is no file {file}")
    except (OSError, ValueError) as error:
        return replace(found, problem=why(error))


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
            try:
                labels[output.get("name", "")] = tuple(read(file).splitlines())
            except KeyError:
                problem = f"there is no file {shown(file)}"
                raise ContradictionError(f"label_filename: {problem}") from None
            except (OSError, ValueError, NativeError) as error:
                problem = f"{shown(file)}: {why(error)}"
                raise ContradictionError(f"label_filename: {problem}") from None
    return labels


# The version under which clients see a model without any version, as failed.
_EXPECTED = 1


def _is_version(path: Path) -> bool:
    # Versions are 64-bit numbers in Triton, which ignores other folders, such as "01" and "backup".
    return _is_number(path.name) and path.is_dir()


def _has_model(folder: Path) -> bool:
    try:
        return (folder / "model.onnx").is_file()
    except OSError:  # an unreadable folder; serving it will report the reason
        return False


def _is_number(text: str) -> bool:
    return re.fullmatch("[1-9][0-9]{0,18}", text) is not None and int(text) < 2**63


def _golden(file: Path) -> tuple[Path, ...]:
    prefix = "test_data_set_" if file.name == "model.onnx" else f"{file.stem}_test_data_set_"
    numbers = (
        int(child.name.removeprefix(prefix))
        for child in file.parent.iterdir()
        if child.name.startswith(prefix) and child.name.removeprefix(prefix).isdecimal()
    )
    return tuple(file.parent / f"{prefix}{number}" for number in sorted(numbers))
