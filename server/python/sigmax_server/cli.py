"""The command line of `sigmax serve`.

The value of a setting is that of its flag, else of its environment variable, else its default.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from sigmax_server.config import SETTINGS, ServerConfig
from sigmax_server.location import Location
from sigmax_server.setting import SWITCH, ConfigError, is_model_name


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
    locations, config = read(argv, os.environ)
    # The native module is loaded late, because `--help` and mistakes do not need it.
    from sigmax_server.say import print_without_waiting
    from sigmax_server.serve import serve

    print_without_waiting()
    return serve(locations, config)


def fill_closed() -> None:
    """Open /dev/null in the place of each standard stream that is closed.

    Otherwise a socket or a file would get the stream's number, and libraries would print into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def read(argv: list[str], environment: Mapping[str, str]) -> tuple[list[Location], ServerConfig]:
    """Read what to serve and the settings from the command line and the environment.

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
        config = ServerConfig(**values)
        return _named(flags["locations"], config.model_name), config
    except ConfigError as error:
        arguments.error(f"{sources[error.setting]}: {error.problem}")


def _named(locations: list[Location], name: str) -> list[Location]:
    """Return the locations, the only one under the name of `--model-name` where there is one."""
    if not name:
        return locations
    if len(locations) > 1:
        raise ConfigError("model_name", "one path to serve beside it", len(locations))
    if locations[0].name:
        raise ConfigError("model_name", "a path without a name beside it", locations[0].name)
    return [Location(locations[0].path, name)]


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
        "locations",
        nargs="+",
        type=_location,
        metavar="REPOSITORY_OR_FILE",
        help="a folder NAME/VERSION/model.onnx, of which each model's newest version is served, "
        "or an .onnx file, served as version 1 under its own name; NAME=FILE gives it another, and "
        "NAME=FOLDER serves a folder that is one model, with model.onnx or VERSION/model.onnx",
    )
    for setting in SETTINGS:
        unit = f"{setting.unit}; " if setting.unit else ""
        result.add_argument(
            setting.flag,
            metavar=setting.kind.placeholder,
            help=f"{setting.meaning} [{unit}default: {setting.default}; env: {setting.variable}]",
        )
    return result


def _location(text: str) -> Location:
    """Convert an argument, PATH or NAME=PATH; ./a=b is a path, because a name has no slash."""
    name, equals, path = text.partition("=")
    if not equals or "/" in name:
        return Location(Path(text))
    if not path or not is_model_name(name):
        raise argparse.ArgumentTypeError(f"expected PATH or NAME=PATH, got {text!r}")
    return Location(Path(path), name)


def _spell_out(argv: list[str]) -> list[str]:
    # An optional value of argparse would take the path that follows a bare `--exit-on-error`.
    switches = {setting.flag for setting in SETTINGS if setting.kind is SWITCH}
    return [f"{word}=true" if word in switches else word for word in argv]
