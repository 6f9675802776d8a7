"""The commands `sigmax train` and `sigmax export`."""

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from sigmax_models import networks
from sigmax_models.errors import ExportError, InexactWarning

if TYPE_CHECKING:
    import numpy as np

    from sigmax_models.declaration import Declaration
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
        for name in dict.fromkeys(names):
            _train(networks.get(name), options.repository, options.seed)
    except (ExportError, InexactWarning, OSError) as error:
        return _fail("train", error)
    return 0


def export_main(argv: list[str]) -> int:
    """Run `sigmax export`, and return the exit code: 0, or 1 after an error."""
    options = _export_parser().parse_args(argv)
    try:
        from sigmax_models.exporter import export
        from sigmax_models.loading import load_module

        module = load_module(options.object, options.weights)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", InexactWarning)
            written = export(module, options.output, _example(options), _declaration(options))
        for warning in caught:
            print(f"sigmax export: warning: {warning.message}", file=sys.stderr)
        print(f"{written.path}   {_agreement(written.parity)}")
    except (ExportError, OSError) as error:
        return _fail("export", error)
    return 0


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


def _example(options: argparse.Namespace) -> "dict[str, np.ndarray]":
    """Return the rows to trace and check with: the given samples, or random rows of the shapes."""
    import numpy as np

    if options.samples:
        with np.load(options.samples, allow_pickle=False) as arrays:
            if isinstance(arrays, np.lib.npyio.NpzFile):
                return dict(arrays)
            raise ExportError(f"{options.samples}: expected an .npz file with an array per input")
    chance = np.random.default_rng(0)
    return {
        name: (
            chance.normal(size=(64, *sizes))
            if np.issubdtype(dtype, np.floating)
            else chance.integers(0, 2, size=(64, *sizes))
        ).astype(dtype)
        for name, dtype, sizes in options.input_shape
    }


def _declaration(options: argparse.Namespace) -> "Declaration":
    from sigmax_models.declaration import Declaration

    return Declaration(
        task=options.task,
        labels=options.labels,
        thresholds=options.thresholds,
        activation=options.activation,
        meanings=dict(options.meaning),
        output=options.output_name,
    )


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
        "--output models/animal/1/model.onnx --input-shape traits:float32:6 --task multiclass "
        "--activation softmax --labels bird,mammal,reptile",
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
        help="a state_dict saved with torch.save; needed unless OBJECT holds trained weights",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="PATH", help="an .onnx file")
    rows = parser.add_mutually_exclusive_group(required=True)
    rows.add_argument(
        "--input-shape",
        type=_input_shape,
        action="append",
        metavar="NAME:DTYPE:SIZES",
        help="an input, without its batch axis, such as image:uint8:8,8; repeat it for several, "
        "in the order of forward. Checked with random rows: normal, for integers 0 or 1",
    )
    rows.add_argument(
        "--samples",
        type=Path,
        metavar="FILE",
        help="an .npz file with real rows of each input, by name, in the order of forward",
    )
    parser.add_argument("--output-name", default="probabilities", metavar="NAME")
    parser.add_argument("--task", choices=("binary", "multiclass", "multilabel"))
    parser.add_argument(
        "--activation",
        choices=("sigmoid", "softmax"),
        help="added to the module's logits; without it the module's output is served as it is",
    )
    parser.add_argument(
        "--labels", type=_names, default=(), metavar="A,B,...", help="class names, by index"
    )
    parser.add_argument(
        "--thresholds",
        type=_numbers,
        default=(),
        metavar="X,...",
        help="thresholds in [0, 1]: one for binary, one for each class for multilabel; "
        "default: 0.5",
    )
    parser.add_argument(
        "--meaning",
        type=_meaning,
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="meaning of an input, for people; repeat it for several",
    )
    return parser


def _input_shape(text: str) -> "tuple[str, np.dtype, tuple[int, ...]]":
    import numpy as np

    try:
        name, dtype, sizes = text.split(":")
        shape = tuple(int(size) for size in sizes.split(",") if size)
        if not name or any(size < 1 for size in shape):
            raise ValueError
        return name, np.dtype(dtype), shape
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(
            f"expected NAME:DTYPE:SIZES, such as image:uint8:8,8, got {text!r}"
        ) from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between, got {text!r}"
        ) from None


def _meaning(text: str) -> tuple[str, str]:
    name, separator, meaning = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=TEXT, got {text!r}")
    return name, meaning


def _fail(command: str, error: Exception) -> int:
    print(f"sigmax {command}: {error}", file=sys.stderr)
    return 1
