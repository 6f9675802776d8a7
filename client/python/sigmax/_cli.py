"""The command line `sigmax`.

Modules are imported when they are first needed: `sigmax serve` loads neither gRPC nor NumPy.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from sigmax import Classification, Client, Result, TensorSpec

# Subcommands that other distributions implement: (module, function, extra, help).
_ELSEWHERE = {
    "serve": ("sigmax_server.cli", "main", "server", "serve models over gRPC"),
    "doctor": ("sigmax_server.doctor", "main", "server", "print what there is to run models on"),
    "train": ("sigmax_models.cli", "train_main", "models", "train the example networks"),
    "export": ("sigmax_models.cli", "export_main", "models", "export a network to a model file"),
}


class CommandError(Exception):
    """A failure of a command, in one line for the person who gave it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments after `sigmax`; None for those of this process.

    Returns:
        The exit code: 0, 1 after an error, 130 after Ctrl-C.

    Raises:
        SystemExit: The usage is wrong (code 2), or help or the version was printed (code 0).
    """
    _fill_closed()
    try:
        try:
            return _answer(list(sys.argv[1:] if argv is None else argv))
        finally:
            # A flush at the end of the interpreter could no longer report a failure.
            if sys.stdout is not None:
                _flush(sys.stdout)
    except CommandError as error:
        _complain(f"sigmax: {_plain(str(error))}")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output has gone, as `head` does. That is no error.
        _discard(sys.stdout)
        return 0


def _answer(arguments: list[str]) -> int:
    if arguments and arguments[0] in _ELSEWHERE:
        return _run_elsewhere(arguments[0], arguments[1:])
    if sys.stdout is None:
        raise CommandError("cannot write: standard output is closed")
    _run(_parser().parse_args(arguments))
    return 0


def _fill_closed() -> None:
    """Open /dev/null in the place of each standard stream that is closed.

    Otherwise a socket would get the stream's number, and libraries would print into the socket.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard(stream)
        raise CommandError(f"cannot write: {error.strerror}") from error


def _discard(stream: TextIO) -> None:
    """Send the stream's buffered text to /dev/null, where the interpreter's last flush succeeds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _complain(text: str) -> None:
    """Print to standard error; do nothing where that is closed or fails."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _run_elsewhere(command: str, arguments: list[str]) -> int:
    module, function, extra, _ = _ELSEWHERE[command]
    try:
        run: Callable[[list[str]], int] = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise CommandError(
            f'`sigmax {command}` is not installed: pip install "sigmax[{extra}]"'
        ) from error
    return run(arguments)


def _run(options: argparse.Namespace) -> None:
    from sigmax import Client, SigmaxError

    try:
        with Client(options.address, timeout=options.timeout) as client:
            options.command(client, options)
    except SigmaxError as error:
        raise CommandError(f"{options.address}: {error}") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        # The client raises SigmaxError only, so that an OSError comes from printing.
        _discard(sys.stdout)
        raise CommandError(f"cannot write: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sigmax", description="Serves classifiers, and asks servers to classify."
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    asking = _asking_options()

    models = commands.add_parser("models", parents=[asking], help="list a server's models")
    models.set_defaults(command=_models)

    model = commands.add_parser("model", parents=[asking], help="describe one model")
    model.add_argument("name", metavar="NAME")
    model.add_argument("--model-version", metavar="N", default="", help="default: the newest ready")
    model.set_defaults(command=_model)

    classify = commands.add_parser(
        "classify",
        parents=[asking],
        help="classify rows",
        description="Classifies the rows of JSON documents. A document is one row, a list of rows,"
        " or an object of inputs; several documents follow each other, as JSON lines do.",
    )
    classify.add_argument("name", metavar="NAME")
    classify.add_argument(
        "--json", metavar="FILE", required=True, help="file to read the rows from; -: stdin"
    )
    classify.add_argument("--model-version", metavar="N", default="", help="default: newest ready")
    classify.add_argument(
        "--top-k", metavar="N", type=int, default=0, help="most classes for each row; 0: all"
    )
    classify.add_argument(
        "--threshold", metavar="P", type=float, help="in [0, 1]; default: the model's own"
    )
    classify.set_defaults(command=_classify)

    for name, (_, _, extra, text) in _ELSEWHERE.items():
        commands.add_parser(name, help=f"{text} (needs sigmax[{extra}])", add_help=False)
    return parser


def _asking_options() -> argparse.ArgumentParser:
    """Make the options that every command with a call to a server has."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=os.environ.get("SIGMAX_ADDRESS", "localhost:8001"),
        help="the server (environment: SIGMAX_ADDRESS; default: localhost:8001)",
    )
    options.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=10.0,
        help="time limit of each call; default: 10",
    )
    options.add_argument(
        "--output",
        choices=["table", "json"],
        default="table" if sys.stdout.isatty() else "json",
        help="a table, or a line of JSON for each model or row; default: a table on a terminal, "
        "else json",
    )
    return options


class _Version(argparse.Action):
    """Action that prints the version, which is looked up only here because that takes time."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"sigmax {version('sigmax')}")
        parser.exit()


def _models(client: "Client", options: argparse.Namespace) -> None:
    models = client.models()
    if options.output == "json":
        _print_lines(asdict(model) for model in models)
        return
    rows = [
        (model.name, version.version, version.state, model.task or "-", version.reason)
        for model in models
        for version in model.versions
    ]
    _print_table(("model", "version", "state", "task", "reason"), rows)


def _model(client: "Client", options: argparse.Namespace) -> None:
    model = client.model(options.name, version=options.model_version)
    if options.output == "json":
        _print_lines([asdict(model)])
        return
    facts = [
        ("model", model.name),
        ("version", model.version),
        ("task", model.task or "none: raw output"),
        *(("input", _tensor_line(spec)) for spec in model.inputs),
        *(("output", _tensor_line(spec)) for spec in model.outputs),
        ("labels", ", ".join(model.labels) or "-"),
        ("thresholds", ", ".join(f"{t:g}" for t in model.thresholds) or "-"),
        ("device", f"{model.device} ({why})" if (why := model.device_reason) else model.device),
        ("largest batch", f"{model.max_batch_size} rows" if model.max_batch_size else "no batches"),
        ("rows independent", "yes" if model.rows_independent else "no"),
        *(("versions", f"{v.version} {v.state} {v.reason}") for v in model.versions),
    ]
    _print_table(None, facts)


def _tensor_line(spec: "TensorSpec") -> str:
    return f"{spec.name} {spec.dtype} {list(spec.shape)} {spec.meaning}"


def _classify(client: "Client", options: argparse.Namespace) -> None:
    lines = []
    for inputs in _documents(options.json):
        result = client.classify(
            options.name,
            inputs,
            version=options.model_version,
            top_k=options.top_k,
            threshold=options.threshold,
            return_probabilities=False,
        )
        if options.output == "json":
            _print_lines(_row_facts(result, row) for row in result)
        else:
            lines += [_row_line(row) for row in result]
    if options.output == "table":
        numbered = [(str(number), *line) for number, line in enumerate(lines)]
        _print_table(("row", "decided", "most probable"), numbered)


def _row_facts(result: "Result", row: "Classification") -> dict[str, Any]:
    return {
        "model": result.model,
        "version": result.version,
        "decision": [asdict(decided) for decided in row.decision],
        "classes": [asdict(scored) for scored in row.classes],
    }


def _row_line(row: "Classification") -> tuple[str, str]:
    decided = ", ".join(scored.label or str(scored.index) for scored in row.decision)
    top = ", ".join(f"{c.label or c.index} {c.probability:.4f}" for c in row.top(3))
    return decided or "-", top


def _documents(path: str) -> Iterator[Any]:
    """Yield every JSON document of a file, one after the other; "-" is standard input."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path}: {error}") from error
    decoder = json.JSONDecoder()
    position = _skip_space(text, 0)
    if position == len(text):
        raise CommandError(f"{path}: expected JSON, got nothing")
    while position < len(text):
        try:
            document, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise CommandError(f"{path}: expected JSON: {error}") from error
        yield document
        position = _skip_space(text, position)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _print_lines(facts: Iterable[dict[str, Any]]) -> None:
    for fact in facts:
        line = json.dumps(fact, ensure_ascii=False)
        # JSON escapes line feeds, but not every character that controls a terminal.
        print(line if line.isprintable() else "".join(map(_json_escaped, line)))


def _print_table(header: tuple[str, ...] | None, rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns, each as wide as its widest cell."""
    table = [[_plain(cell) for cell in row] for row in ([header] if header else []) + list(rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _plain(text: str) -> str:
    """Escape unprintable characters, so that labels and messages cannot control the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _json_escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
