"""The command line of `sigmax describe`."""

import argparse
import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from sigmax_server import __version__, text_file
from sigmax_server._native import NativeError, load_runtime
from sigmax_server.describing import edit, facts, golden
from sigmax_server.describing.trial import load_as_a_server
from sigmax_server.describing.weights import bring_in
from sigmax_server.graph import ContradictionError
from sigmax_server.repository import MOST_LABEL_BYTES, golden_folder, golden_folders
from sigmax_server.runtime import RuntimeLibraryError, find_runtime
from sigmax_server.stated import parse
from sigmax_server.text import plain, shown, why

_WHOLE = 2**31 - 1  # most bytes of an ONNX file, which is one message of protobuf's


def main(argv: list[str]) -> int:
    """Describe a model file, or write a copy that describes itself.

    Args:
        argv: the arguments after `sigmax describe`.

    Returns:
        The exit code: 0 where a server would serve the model, or the copy was written; else 1.

    Raises:
        SystemExit: with 2 where the command line is wrong, with 0 after `--help`.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    changes = [each for each in _CHANGES if getattr(options, each) is not None]
    if changes and options.out is None:
        parser.error(f"{_flag(changes[0])} describes a copy: expected -o OUT, the file to write")
    try:
        _check(options)
        load_runtime(str(find_runtime()))
        if options.out is None:
            return _print(options.file, options.json)
        _write(options)
        return _print(options.out, options.json)
    except (ContradictionError, NativeError, RuntimeLibraryError, OSError) as error:
        print(f"sigmax describe: {plain(why(error))}", file=sys.stderr)
        return 1


def _check(options: argparse.Namespace) -> None:
    """Refuse options that would have no effect, and a place that no copy can be written to."""
    for name in _OF_ONE_HEAD:
        given = getattr(options, name) is not None
        if given and options.heads is not None:
            raise ContradictionError(
                f"{_flag(name)}: expected none beside --heads, because each head has its own"
            )
    for name in ("output", "activation"):
        if getattr(options, name) is not None and options.task is None:
            raise ContradictionError(
                f"{_flag(name)}: expected --task, which says what is classified"
            )
    out: Path | None = options.out
    if out is not None and (out.suffix != ".onnx" or out.is_dir()):
        raise ContradictionError(
            f"-o: expected a file whose name ends in .onnx, got {shown(str(out))}"
        )


def _flag(name: str) -> str:
    return "--" + {"thresholds": "threshold"}.get(name, name).replace("_", "-")


def _print(file: Path, as_json: bool) -> int:
    """Print what a file holds and how it would be served; return the exit code."""
    told = facts.of_file(file, _read(file, weights=False))
    try:
        told += facts.of_service(load_as_a_server(file))
        code = 0
    # Whatever keeps the model from being served is what the reader wants to know.
    except Exception as error:
        told.append(("not served", why(error)))
        code = 1
    if as_json:
        print(json.dumps([{"fact": name, "value": text} for name, text in told], indent=2))
    else:
        print(facts.lines(told))
    return code


def _read(file: Path, *, weights: bool) -> ModelProto:
    """Read a model file, with the weights of other files beside it where asked for."""
    try:
        model = onnx.load(file, load_external_data=False)
        if weights:
            bring_in(model, file.parent)
        return model
    except ContradictionError as error:
        raise ContradictionError(f"{file}: {error}") from None
    except OSError as error:
        raise ContradictionError(f"{file}: {error.strerror or error}") from None
    except Exception as error:  # protobuf and onnx have classes of their own for bad files
        raise ContradictionError(f"{file}: expected an ONNX file: {error}") from None


def _write(options: argparse.Namespace) -> None:
    """Write the copy beside its place, try it as a server would, and move it there."""
    model = _read(options.file, weights=True)
    _describe(model, options)
    if model.ByteSize() > _WHOLE:
        raise ContradictionError(
            f"{options.file}: expected a model of at most {_WHOLE} bytes with its weights; state "
            "the same in its config.pbtxt instead"
        )
    out: Path = options.out
    try:
        # Until the copy has been tried there is no more than a hidden folder, which servers skip.
        with tempfile.TemporaryDirectory(prefix=".sigmax-describe-", dir=_standing(out)) as folder:
            _write_tried(Path(folder) / out.name, model, options)
    except OSError as error:
        raise ContradictionError(f"{out} is not written: {error.strerror or error}") from None


def _standing(out: Path) -> Path:
    """Return the nearest folder above a file to write that is there."""
    return next(each for each in out.parents if each.exists())


def _write_tried(staged: Path, model: ModelProto, options: argparse.Namespace) -> None:
    """Write the copy to `staged`, try it, and move it and its samples to their place."""
    out: Path = options.out
    staged.write_bytes(model.SerializeToString(deterministic=True))
    samples = _write_samples(staged, model, options)
    try:
        load_as_a_server(staged)
    except Exception as error:
        reason = why(error).replace(str(staged), str(options.file))
        raise ContradictionError(f"{out} is not written: {reason}") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    for stale in golden_folders(out):
        shutil.rmtree(stale)
    for number in range(samples):
        golden_folder(staged, number).rename(golden_folder(out, number))
    staged.replace(out)


def _describe(model: ModelProto, options: argparse.Namespace) -> None:
    """Change a model as the options say."""
    classes = edit.take_out_zip_maps(model)
    values: dict[str, Any] = {"format": "1", "producer": {"sigmax-server": __version__}}
    stale: tuple[str, ...] = ()
    if options.heads is not None:
        values["heads"] = _heads(_text("--heads", options.heads), classes)
        stale = ("task", "labels", "thresholds", "output")
    elif options.task is not None:
        values |= _classification(model, options, classes)
        stale = ("heads", "thresholds", "output")
    for key in ("labels", "thresholds", "rows_independent"):
        if getattr(options, key) is not None:
            values[key] = getattr(options, key)
    if options.labels_file is not None:
        values["labels"] = text_file.lines(_text("--labels-file", options.labels_file))
    if inputs := _inputs(options):
        values["inputs"] = inputs
    edit.state(model, values, without=stale)


def _classification(
    model: ModelProto, options: argparse.Namespace, classes: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """Return the values of the task that the options state, and add its activation.

    Args:
        model: model to change.
        options: options with a task.
        classes: names of classes that ZipMaps knew, by the names of outputs.
    """
    output = edit.classified_output(model, options.output)
    labels = classes.get(output.name)
    if options.activation is not None:
        edit.add_activation(model, output, options.activation)
    values: dict[str, Any] = {"task": options.task}
    if output.name != model.graph.output[0].name:
        values["output"] = output.name
    return values | ({"labels": labels} if labels else {})


def _heads(text: str, classes: Mapping[str, tuple[str, ...]]) -> object:
    """Return the value of sigmax.heads; a head without labels gets those of its output's ZipMap."""
    heads = parse("--heads", text)
    for head in heads if isinstance(heads, list) else ():
        if isinstance(head, dict) and isinstance(head.get("output"), str):
            labels = classes.get(head["output"])
            head |= {"labels": labels} if labels and "labels" not in head else {}
    return heads


def _text(flag: str, file: Path) -> str:
    """Return the text of a file that an option names; the error names both."""
    try:
        return text_file.read(file, MOST_LABEL_BYTES)
    except (NativeError, ContradictionError) as error:
        raise ContradictionError(f"{flag} {file}: {why(error)}") from None


def _inputs(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Return the value of sigmax.inputs: meanings and encodings by the input's name."""
    inputs: dict[str, dict[str, str]] = {}
    for member in ("meaning", "encoding"):
        for name, text in getattr(options, f"input_{member}") or ():
            inputs.setdefault(name, {})[member] = text
    return inputs


def _write_samples(staged: Path, model: ModelProto, options: argparse.Namespace) -> int:
    """Write the golden samples beside the staged copy, and return their number.

    Without a file of rows the samples beside the original are copied, unless the copy answers
    otherwise than the original.
    """
    if options.golden is not None:
        arrays = golden.read_rows(options.golden, model)
        inputs = {each.name: arrays[each.name] for each in golden.inputs(model)}
        outputs = golden.answers(model, arrays)
        golden.write_sample(golden_folder(staged, 0), inputs, outputs)
        return 1
    originals = golden_folders(options.file)
    before = _read(options.file, weights=False).graph.output
    if [each.SerializeToString() for each in before] != [
        each.SerializeToString() for each in model.graph.output
    ]:
        if originals:
            print(
                f"sigmax describe: note: the golden samples of {plain(str(options.file))} are left "
                "out, because the copy has another output; add new ones by --golden",
                file=sys.stderr,
            )
        return 0
    for number, folder in enumerate(originals):
        shutil.copytree(folder, golden_folder(staged, number))
    return len(originals)


# Options about the only head, and all options that describe a copy.
_OF_ONE_HEAD = ("task", "labels", "labels_file", "output", "activation", "thresholds")
_CHANGES = (
    *_OF_ONE_HEAD,
    "heads",
    "input_meaning",
    "input_encoding",
    "rows_independent",
    "golden",
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sigmax describe",
        description="Print what an ONNX file holds and how it would be served; or, with -o, write "
        "a copy that describes itself, checked as a server checks it.",
        epilog="example: sigmax describe forest.onnx --task multiclass "
        "--labels bird,mammal,reptile -o models/animal/1/model.onnx",
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="ONNX file of any exporter")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument(
        "-o", dest="out", type=Path, metavar="OUT", help="file to write the copy to"
    )
    copy = parser.add_argument_group("the copy")
    copy.add_argument("--task", choices=["binary", "multiclass", "multilabel"])
    copy.add_argument(
        "--output",
        metavar="NAME",
        help="output that the task is about; default: the only one of floating-point numbers",
    )
    labels = copy.add_mutually_exclusive_group()
    labels.add_argument(
        "--labels",
        type=_words,
        metavar="A,B,...",
        help='names of the classes, by index; "a, b" in '
        "quotes is one name; default: those of a ZipMap that is taken out",
    )
    labels.add_argument(
        "--labels-file", type=Path, metavar="FILE", help="the same, one name in each line"
    )
    copy.add_argument(
        "--threshold",
        dest="thresholds",
        type=_numbers,
        metavar="P[,P...]",
        help="thresholds in [0, 1]: one for binary, one for each class for multilabel",
    )
    copy.add_argument(
        "--activation",
        choices=["softmax", "sigmoid"],
        help="step to add to the graph where the output holds raw scores",
    )
    copy.add_argument(
        "--heads", type=Path, metavar="FILE", help="JSON file with the value of sigmax.heads"
    )
    copy.add_argument(
        "--input-meaning",
        action="append",
        type=_named,
        metavar="NAME=TEXT",
        help="meaning of an input, for people; may be repeated",
    )
    copy.add_argument(
        "--input-encoding",
        action="append",
        type=_named,
        metavar="NAME=utf-8",
        help="encoding of text in an input of bytes; may be repeated",
    )
    copy.add_argument(
        "--rows-independent",
        type=_truth,
        metavar="true|false",
        help="your word on whether a row's answer depends on that row alone",
    )
    copy.add_argument(
        "--golden",
        type=Path,
        metavar="FILE.npz",
        help="rows of every input by its name, and "
        "perhaps the answers by the output's name; else ONNX Runtime's answers are taken",
    )
    return parser


def _checked(parse: Callable[[str], Any], expected: str) -> Callable[[str], Any]:
    """Return a parser of an argument whose error says what was expected."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except (ValueError, KeyError):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {shown(text)}") from None

    return parsed


def _split_name(text: str) -> tuple[str, str]:
    name, value = text.split("=", 1)
    return name, value


def _split_names(text: str) -> list[str]:
    if not text.strip():
        raise ValueError
    return next(csv.reader([text], skipinitialspace=True))


_words = _checked(_split_names, "names")
_numbers = _checked(lambda text: [float(part) for part in text.split(",")], "numbers")
_named = _checked(_split_name, "NAME=TEXT")
_truth = _checked(lambda text: {"true": True, "false": False}[text], "true or false")
