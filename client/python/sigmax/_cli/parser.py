"""The arguments of the commands that ask a server."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from sigmax import _environment

_IMAGES: Final = """images:
  --image needs Pillow (pip install "sigmax[images]") and a model whose one input has rows of the
  shape [height, width], [height, width, channels] or [channels, height, width], with 1, 3 or 4
  channels. An image is turned as its EXIF says, converted to grey, RGB or RGBA, and stretched to
  the input's size (bilinear). UINT8 gets the values 0 to 255; a float gets them divided by 255.
"""
_PLACES: Final = ("ROWS", "--json", "--csv", "--npy", "--npz", "--image")


def make(elsewhere: Mapping[str, str]) -> argparse.ArgumentParser:
    """Make the parser. The name of the function that answers is in `command`.

    Args:
        elsewhere: Help of the commands that other packages implement, by the command's name.
    """
    parser = argparse.ArgumentParser(
        prog="sigmax", description="Serves classifiers, and asks servers to classify."
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Command)
    asking = _asking_options()

    models = commands.add_parser("models", parents=[asking], help="list a server's models")
    models.set_defaults(command="describe.models")

    health = commands.add_parser(
        "health",
        parents=[asking],
        help="say whether a server or a model is ready; for probes, too",
        description="Asks grpc.health.v1, once, and prints SERVING or another status. The exit "
        "code is 0 for SERVING only.",
    )
    health.add_argument("name", metavar="MODEL", nargs="?", default="", help="default: the server")
    health.set_defaults(command="health.health")

    model = commands.add_parser("model", parents=[asking], help="describe one model")
    _add_model(model)
    model.set_defaults(command="describe.model")

    classify = commands.add_parser(
        "classify",
        parents=[asking],
        help="classify rows",
        description="Classifies rows of JSON, CSV or NumPy's files, and images.",
        epilog=_IMAGES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model(classify)
    _add_inputs(classify)
    classify.add_argument("--head", metavar="NAME", default="", help="default: the model's first")
    classify.add_argument(
        "--top-k", metavar="N", type=int, default=0, help="most classes for each row; 0: all"
    )
    classify.add_argument(
        "--threshold", metavar="P", type=float, help="in [0, 1]; default: the model's own"
    )
    classify.set_defaults(command="ask.classify")

    infer = commands.add_parser(
        "infer",
        parents=[asking],
        help="run a model, and print its outputs as they are",
        description="Runs a model on rows of JSON, CSV or NumPy's files, and on images, and\n"
        "prints its outputs as they are. The model needs no task.",
        epilog=_IMAGES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model(infer)
    _add_inputs(infer)
    infer.add_argument(
        "--only", metavar="NAME", action="append", default=[], help="an output; may be repeated"
    )
    infer.set_defaults(command="ask.infer")

    for name, text in elsewhere.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="name of the model")
    command.add_argument("--model-version", metavar="N", default="", help="default: newest ready")


def _add_inputs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "rows",
        metavar="ROWS",
        nargs="?",
        help="JSON: one row, a list of rows, or an object of inputs by name; -: from stdin",
    )
    command.add_argument(
        "--json", metavar="FILE", help="file of such documents, or of lines of them; -: stdin"
    )
    command.add_argument(
        "--csv",
        metavar="FILE",
        help="file with a row in each line; -: stdin. A model with several inputs needs a header "
        "with their names, one of texts any header",
    )
    command.add_argument("--npy", metavar="FILE", help="array of rows; -: stdin")
    command.add_argument(
        "--npz", metavar="FILE", help="arrays by the names of the inputs; -: stdin"
    )
    command.add_argument("--image", metavar="FILE", action="append", help="may be repeated")


def _asking_options() -> "_Command":
    """Make the options that every command with a call to a server has."""
    options = _Command(add_help=False)
    options.add_argument(
        "--address",
        metavar="HOST:PORT",
        help=f"the server, or several IP addresses with commas between them (environment: "
        f"{_environment.ADDRESS}; default: {_environment.DEFAULT_ADDRESS})",
    )
    options.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=10.0,
        help="time limit of each call, all its retries together; default: 10. A server that cannot "
        "be reached is told at once",
    )
    _add_security(options)
    options.add_argument(
        "--output",
        choices=["table", "json", "csv"],
        default="table" if sys.stdout.isatty() else "json",
        help="a table, a line of JSON for each model or row, or CSV; default: a table on a "
        "terminal, else json",
    )
    return options


def _add_security(options: argparse.ArgumentParser) -> None:
    """Add the options of TLS and of the token. They win over the variables of the environment."""
    security = options.add_argument_group(
        "TLS and token", "A token is sent only over TLS, and to this machine."
    )
    for flag, variable, metavar, text in (
        ("--tls", _environment.TLS, None, "use TLS, by the authorities that gRPC brings"),
        ("--tls-ca", _environment.TLS_CA, "FILE", "authorities of the server's certificate, PEM"),
        ("--tls-certificate", _environment.TLS_CERTIFICATE, "FILE", "the client's own, in PEM"),
        ("--tls-key", _environment.TLS_KEY, "FILE", "private key of --tls-certificate, in PEM"),
        (
            "--tls-server-name",
            _environment.TLS_SERVER_NAME,
            "NAME",
            "name in the server's certificate; default: the host in --address",
        ),
        (
            "--token-file",
            _environment.TOKEN_FILE,
            "FILE",
            f"file of the token; the variable {_environment.TOKEN} holds the token itself",
        ),
    ):
        help_text = f"{text} (environment: {variable})"
        if metavar is None:
            security.add_argument(flag, action="store_const", const="true", help=help_text)
        else:
            security.add_argument(flag, metavar=metavar, help=help_text)


def variables(options: argparse.Namespace, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables of a client, with the options in the place of those that they name."""
    given = {
        _environment.ADDRESS: options.address,
        _environment.TLS: options.tls,
        _environment.TLS_CA: options.tls_ca,
        _environment.TLS_CERTIFICATE: options.tls_certificate,
        _environment.TLS_KEY: options.tls_key,
        _environment.TLS_SERVER_NAME: options.tls_server_name,
        _environment.TOKEN_FILE: options.token_file,
    }
    given = {name: value for name, value in given.items() if value is not None}
    replaced = set(given)
    if replaced & {_environment.TLS_CA, _environment.TLS_CERTIFICATE, _environment.TLS_KEY}:
        replaced.add(_environment.TLS)
    if _environment.TOKEN_FILE in given:
        replaced.add(_environment.TOKEN)
    return {k: v for k, v in environment.items() if k not in replaced} | given


class _Command(argparse.ArgumentParser):
    """Parser of one command. Arguments may stand after options; rows come from one place."""

    _is_parsing = False  # parse_known_intermixed_args calls parse_known_args

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        if self._is_parsing:
            return super().parse_known_args(args, namespace)
        self._is_parsing = True
        options, rest = self.parse_known_intermixed_args(args, namespace)
        self._is_parsing = False
        if hasattr(options, "rows"):
            given = [name for name in _PLACES if getattr(options, name.strip("-").lower())]
            if len(given) != 1:
                self.error(
                    f"expected rows from one of {', '.join(_PLACES)}; "
                    f"got {', '.join(given) or 'none of them'}"
                )
        return options, rest


class _Version(argparse.Action):
    """Action that prints the version, which is looked up only here because that takes time."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"sigmax {version('sigmax')}")
        parser.exit()
