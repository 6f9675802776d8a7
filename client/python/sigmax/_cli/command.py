"""The start and the end of every command: which function answers, exit codes, errors."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from sigmax import _environment
from sigmax._cli import parser
from sigmax._cli.printing import plain
from sigmax._cli.streams import CommandError, complain, discard, fill_closed, flush

if TYPE_CHECKING:
    from sigmax import Client

# Subcommands that other distributions implement: (module, function, extra, help).
_ELSEWHERE = {
    "serve": ("sigmax_server.cli", "main", "server", "serve models over gRPC"),
    "describe": (
        "sigmax_server.describing.cli",
        "main",
        "server",
        "print what a model file holds, or write a copy that describes itself",
    ),
    "doctor": ("sigmax_server.doctor", "main", "server", "print what there is to run models on"),
    "train": ("sigmax_models.cli", "train_main", "examples", "train the example networks"),
    "export": ("sigmax_models.cli", "export_main", "models", "export a network to a model file"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments after `sigmax`; None for those of this process.

    Returns:
        The exit code: 0, 1 after an error, 130 after Ctrl-C.

    Raises:
        SystemExit: The usage is wrong (code 2), or help or the version was printed (code 0).
    """
    fill_closed()
    try:
        try:
            return _answer(list(sys.argv[1:] if argv is None else argv))
        finally:
            # A flush at the end of the interpreter could no longer report a failure.
            if sys.stdout is not None:
                flush(sys.stdout)
    except CommandError as error:
        complain(f"sigmax: {plain(str(error))}")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output has gone, as `head` does. That is no error.
        discard(sys.stdout)
        return 0


def _answer(arguments: list[str]) -> int:
    if arguments and arguments[0] in _ELSEWHERE:
        return _run_elsewhere(arguments[0], arguments[1:])
    if sys.stdout is None:
        raise CommandError("cannot write: standard output is closed")
    elsewhere = {
        name: f"{text} (needs sigmax[{extra}])" for name, (_, _, extra, text) in _ELSEWHERE.items()
    }
    return _run(parser.make(elsewhere).parse_args(arguments))


def _run_elsewhere(command: str, arguments: list[str]) -> int:
    module, function, extra, _ = _ELSEWHERE[command]
    try:
        run: Callable[[list[str]], int] = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        # A server alone does without onnx, which the extra brings.
        if error.name not in (module.partition(".")[0], "onnx"):
            raise
        raise CommandError(
            f'`sigmax {command}` is not installed: pip install "sigmax[{extra}]"'
        ) from error
    return run(arguments)


def _run(options: argparse.Namespace) -> int:
    """Answer a command that asks a server, and return the exit code."""
    from sigmax import InvalidAddress, InvalidCredentials, SigmaxError

    module, _, function = options.command.partition(".")
    command = getattr(import_module(f"sigmax._cli.{module}"), function)
    variables = parser.variables(options, os.environ)
    try:
        if module == "health":
            return 0 if command(options) else 1
        with _client(variables, options.timeout) as client:
            command(client, options)
    except (InvalidAddress, InvalidCredentials) as error:
        raise CommandError(str(error)) from error
    except SigmaxError as error:
        address = variables.get(_environment.ADDRESS) or _environment.DEFAULT_ADDRESS
        raise CommandError(f"{address}: {error}") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        # The client raises SigmaxError only, and reading CommandError: this comes from printing.
        discard(sys.stdout)
        raise CommandError(f"cannot write: {error.strerror}") from error
    return 0


def _client(variables: Mapping[str, str], timeout: float) -> "Client":
    from sigmax import Client

    class Impatient(Client):
        """Client that tells at once where no connection can be made, to the person waiting."""

        _waits_for_server = False

    return Impatient(**_environment.arguments(variables), timeout=timeout)
