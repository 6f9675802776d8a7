"""The command line of `sigmax serve`.

The value of a setting is that of its flag, else of its environment variable, else its default.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from sigmax_server.config import SETTINGS, SWITCH, ConfigError, ServerConfig


def main(argv: list[str]) -> int:
    """Serve models until a signal ends the process.

    Args:
        argv: the arguments after `sigmax serve`.

    Returns:
        The exit code 1 where the server could not start. Once it runs, `serve` ends the process:
        with 0 after a clean end, with 1 where it could not answer all accepted requests.

    Raises:
        SystemExit: with 2 where the command line or the environment is wrong, with 0 after
            `--help`.
    """
    fill_closed()
    paths, config = read(argv, os.environ)
    # The native module is loaded late, because `--help` and mistakes do not need it.
    from sigmax_server.say import print_without_waiting
    from sigmax_server.serve import serve

    print_without_waiting()
    return serve(paths, config)


def fill_closed() -> None:
    """Open /dev/null in the place of each standard stream that is closed.

    Otherwise a socket or a file would get the stream's number, and libraries would print into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def read(argv: list[str], environment: Mapping[str, str]) -> tuple[list[Path], ServerConfig]:
    """Read the paths to serve and the settings from the command line and the environment.

    Raises:
        SystemExit: with 2 and a message that names the flag or the variable, what was expected
            and what came.
    """
    arguments = parser()
    flags = vars(arguments.parse_intermixed_args(_spell_out(argv)))
    sources: dict[str, str] = {}
    values = {}
    try:
        for setting in SETTINGS:
            text, source = flags[setting.name], setting.flag
            # An empty variable counts as unset, because templates leave out a value that way.
            if text is None and environment.get(setting.variable):
                text, source = environment[setting.variable], setting.variable
            sources[setting.name] = source
            if text is not None:
                values[setting.name] = setting.parse(text)
        return flags["paths"], ServerConfig(**values)
    except ConfigError as error:
        arguments.error(f"{sources[error.setting]}: {error.problem}")


def parser() -> argparse.ArgumentParser:
    """Make the parser. Values stay texts, which `Setting.parse` converts."""
    result = argparse.ArgumentParser(
        prog="sigmax serve",
        usage="%(prog)s [option ...] REPOSITORY_OR_FILE...",
        description="Serve classifiers in ONNX files over gRPC, until SIGTERM or Ctrl-C.",
        epilog="A flag wins over its environment variable.",
        allow_abbrev=False,
    )
    result.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="REPOSITORY_OR_FILE",
        help="a folder NAME/VERSION/model.onnx, of which each model's newest version is served, "
        "or an .onnx file, served as version 1 under its own name",
    )
    for setting in SETTINGS:
        unit = f"{setting.unit}; " if setting.unit else ""
        result.add_argument(
            setting.flag,
            metavar=setting.kind.placeholder,
            help=f"{setting.meaning} [{unit}default: {setting.default}; env: {setting.variable}]",
        )
    return result


def _spell_out(argv: list[str]) -> list[str]:
    # An optional value of argparse would take the path that follows a bare `--exit-on-error`.
    switches = {setting.flag for setting in SETTINGS if setting.kind is SWITCH}
    return [f"{word}=true" if word in switches else word for word in argv]
