"""A trial of a model file: it is loaded as a server would load it, and asked nothing."""

from dataclasses import dataclass
from pathlib import Path

from sigmax_server._native import Report, Server
from sigmax_server.config import ServerConfig
from sigmax_server.device import Cuda, Devices
from sigmax_server.load import load_or_raise
from sigmax_server.location import Location
from sigmax_server.model_spec import ModelSpec
from sigmax_server.repository import Found, scan
from sigmax_server.runtime import find_runtime
from sigmax_server.setting import is_model_name


@dataclass(frozen=True)
class Tried:
    """A model that a server would serve.

    Attributes:
        spec: configuration under which it would be served.
        report: results of warming it up.
    """

    spec: ModelSpec
    report: Report


def _found(file: Path) -> Found:
    """Return a file as a server finds it: with the config.pbtxt of the repository around it."""
    folder = file.resolve().parent.parent
    if (folder / "config.pbtxt").exists() and is_model_name(folder.name):
        for each in scan([Location(folder, folder.name)]):
            if each.problem or each.file == file.resolve():
                return each
    [found] = scan([Location(file, "model")])
    return found


def load_as_a_server(file: Path) -> Tried:
    """Load a model file on the CPU, with all checks that a server makes before it serves.

    ONNX Runtime must have been loaded before.

    Raises:
        Exception: the model would not be served; `text.why` gives the reason.
    """
    config = ServerConfig(grpc_port=0, http_port=0, shards=1)
    devices = Devices("cpu", Cuda(find_runtime()))
    found = _found(file)
    server = Server(config)
    try:
        server.declare(found.name, found.version)
        return Tried(*load_or_raise(server, found, config, devices))
    finally:
        server.stop()
