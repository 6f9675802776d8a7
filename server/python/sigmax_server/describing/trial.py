"""A trial of a model file: it is loaded as a server would load it, and asked nothing."""

from dataclasses import dataclass
from pathlib import Path

from sigmax_server import model_config
from sigmax_server._native import Report, Server, open_model
from sigmax_server.config import Location, ModelSpec, ServerConfig, is_model_name
from sigmax_server.describe import describe
from sigmax_server.device import Cuda, Devices
from sigmax_server.graph import ContradictionError
from sigmax_server.machine import usable_memory
from sigmax_server.repository import Found, scan
from sigmax_server.runtime import find_runtime


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
    """Return a file as a server finds it: with the config.pbtxt of the repository that it lies in.

    Raises:
        ContradictionError: the config.pbtxt keeps the model from being served.
    """
    folder = file.resolve().parent.parent
    if (folder / "config.pbtxt").exists() and is_model_name(folder.name):
        for each in scan([Location(folder, folder.name)]):
            if each.problem:
                raise ContradictionError(each.problem)
            if each.file == file.resolve():
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
        opened = open_model(str(file), usable_memory(), config.load_timeout_seconds)
        choice = devices.place(model_config.groups(found.config))
        spec = describe(opened, found, config.max_batch_size, choice)
        server.declare(found.name, found.version)
        return Tried(spec, server.load(opened, spec))
    finally:
        server.stop()
