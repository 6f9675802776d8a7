"""The commands `sigmax train` and `sigmax export`."""

import argparse
import csv
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sigmax_models import networks
from sigmax_models.errors import ExportError, ExportNotice, InexactWarning
from sigmax_models.options import InputShape

if TYPE_CHECKING:
    from sigmax_models.exporter import Export
    from sigmax_models.network import Network, Trained
    from sigmax_models.parity import Parity


def train_main(argv: list[str]) -> int:
    """Run `sigmax train`, and return the exit code: 0, or 1 after an error."""
    parser = _train_parser()
    options = parser.parse_args(argv)
    names = list(networks.NAMES) if "all" in options.networks else options.networks
    if unknown := [name for name in names if name not in networks.NAMES]:
        parser.error(f"no network is named {unknown[0]!r}; there are {', '.join(networks.NAMES)}")
    try:
        for network in [networks.get(name) for name in dict.fromkeys(names)]:
            _train(network, options.repository, options.seed)
    except (ExportError, InexactWarning, ModuleNotFoundError, OSError) as error:
        return _fail("train", error)
    return 0


def export_main(argv: list[str]) -> int:
    """Run `sigmax export`, and return the exit code: 0, or 1 after an error."""
    options = _export_parser().parse_args(argv)
    try:
        with _told(options.verbose):
            written = _export(options)
        print(f"{written.path}   {_agreement(written.parity)}")
    except (ExportError, OSError) as error:
        if options.verbose:
            traceback.print_exception(error)
        return _fail("export", error)
    return 0


def _export(options: argparse.Namespace) -> "Export":
    from sigmax_models.exporter import export
    from sigmax_models.loading import load_module
    from sigmax_models.options import declaration, dynamic, example

    declared, output = declaration(options)
    return export(
        load_module(options.object, options.weights),
        options.file,
        example(options.input_shape, options.samples, dict(options.encoding)),
        declared,
        output=output,
        dynamic=dynamic(options.input_shape),
        verbose=options.verbose,
    )


@contextmanager
def _told(verbose: bool) -> Iterator[None]:
    """Print notices and warnings as lines, those of other packages only if `verbose`."""
    words: dict[type[Warning], str] = {ExportNotice: "note", InexactWarning: "warning"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                if verbose or warning.category in words:
                    word = words.get(warning.category, warning.category.__name__)
                    print(f"sigmax export: {word}: {warning.message}", file=sys.stderr)


def _train(network: "Network", repository: Path, seed: int) -> None:
    """Train a network and publish it.

    An InexactWarning is an error here, because all networks of this package are exact.
    """
    from sigmax_models.progress import bar

    start = time.perf_counter()
    trained = network.train(seed, bar(network.name))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InexactWarning)
        written = network.publish(trained, repository)
    seconds = time.perf_counter() - start
    print(
        f"{network.name:<11}{_judgement(trained):<66}{seconds:5.1f} s   "
        f"{_agreement(written.parity)}",
        flush=True,
    )


def _judgement(trained: "Trained") -> str:
    if trained.score is None:
        return "fixed weights, nothing to learn"
    return (
        f"accuracy {trained.score.accuracy:6.1%} on {trained.score.rows} held-out rows "
        f"(most frequent class: {trained.score.baseline:.1%})"
    )


def _agreement(parity: "Parity") -> str:
    rows = "the same bits in every batch" if parity.alone == 0 else f"batch {parity.alone:.0e}"
    return f"torch within {parity.torch:.0e}, {rows}"


def _train_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sigmax train",
        description="Train the example networks and export them into a model repository.",
    )
    parser.add_argument(
        "networks",
        nargs="*",
        default=["all"],
        metavar="NETWORK",
        help=f"{', '.join(networks.NAMES)}; default: all",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write DIR/NETWORK/1/model.onnx and DIR/NETWORK/weights.pt into",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of everything random in training; default: 0"
    )
    return parser


def _export_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sigmax export",
        description="Export a trained torch module to an ONNX file that describes itself.",
        epilog="example: sigmax export zoo:Animal --weights animal.pt "
        "-o models/animal/1/model.onnx --input-shape traits:float32:6 --task multiclass "
        "--activation softmax --labels bird,mammal,reptile",
        allow_abbrev=False,
    )
    parser.add_argument(
        "object",
        metavar="MODULE:OBJECT",
        help="a torch module, or a class or function without arguments that makes one",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="a state_dict saved with torch.save, or a checkpoint that holds one; needed unless "
        "OBJECT holds trained weights",
    )
    parser.add_argument(
        "-o", "--file", type=Path, required=True, metavar="PATH", help="an .onnx file to write"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show what torch says, and where an error came from"
    )
    _add_inputs(parser)
    _add_task(parser)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input-shape",
        type=InputShape.parse,
        action="append",
        default=[],
        metavar="NAME:DTYPE:SIZES",
        help="an input, without its batch axis, such as image:uint8:8,8; a word instead of a size "
        "is a free axis, such as ids:int64:length. Repeat it for several inputs. Checked with "
        "random rows, normal or for integers 0 and 1, where there are no --samples",
    )
    parser.add_argument(
        "--samples",
        type=Path,
        metavar="FILE",
        help="an .npz file with real rows of each input, by name, in the order of forward; or an "
        ".npy file with those of the only input",
    )
    parser.add_argument(
        "--meaning",
        type=_by_name,
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="meaning of an input, for people; repeat it for several",
    )
    parser.add_argument(
        "--encoding",
        type=_by_name,
        action="append",
        default=[],
        metavar="NAME=utf-8",
        help="declare that an input, uint8 of a fixed length, holds texts: UTF-8, then zeros",
    )


def _add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=_choice,
        metavar="N or NAME",
        help="the output to export of a module that returns several: its place, from 0, or its "
        "name in a dict or dataclass",
    )
    parser.add_argument(
        "--output-name",
        metavar="NAME",
        help="name of the output in the file; default: probabilities",
    )
    parser.add_argument("--task", choices=("binary", "multiclass", "multilabel"))
    parser.add_argument(
        "--activation",
        choices=("sigmoid", "softmax"),
        help="added to the module's logits; without it the module's output is served as it is",
    )
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        "--labels",
        type=_names,
        metavar="A,B,...",
        help="class names, by index; one with a comma in double quotes",
    )
    labels.add_argument(
        "--labels-file",
        type=Path,
        metavar="FILE",
        help="class names, by index: a text file with one a line, or a .json file with a list",
    )
    parser.add_argument(
        "--thresholds",
        type=_numbers,
        metavar="X,...",
        help="thresholds in [0, 1]: one for binary, one for each class for multilabel; "
        "default: 0.5",
    )
    parser.add_argument(
        "--heads",
        type=Path,
        metavar="FILE",
        help="a .json file with several heads, instead of the options above: a list of objects "
        "with name, task and, where needed, output, activation, labels, thresholds",
    )


def _choice(text: str) -> int | str:
    if text.endswith(".onnx"):
        raise argparse.ArgumentTypeError(
            f"expected the place or name of an output of the module, got {text!r}; the file to "
            "write is given by -o"
        )
    return int(text) if text.isdecimal() else text


def _names(text: str) -> tuple[str, ...]:
    try:
        (row,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        raise argparse.ArgumentTypeError(
            f"expected names with commas between, those with a comma in quotes, got {text!r}"
        ) from None
    return tuple(name.strip() for name in row)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between, got {text!r}"
        ) from None


def _by_name(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=TEXT, got {text!r}")
    return name, value


def _fail(command: str, error: Exception) -> int:
    said = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        said = f"{error.filename}: {error.strerror}"
    print(f"sigmax {command}: {said}", file=sys.stderr)
    return 1
