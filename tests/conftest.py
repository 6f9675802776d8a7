"""Real servers for the tests that cross components."""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import files
from support.attack import MODEL, Target
from support.certificates import Authority
from support.server import Serve, Server

# ONNX Runtime reports its use over the network unless this is set before it is loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seven networks, trained and exported. Takes a minute: for tests marked slow."""
    from sigmax_models import InexactWarning, networks

    folder = tmp_path_factory.mktemp("repository")
    with warnings.catch_warnings():
        warnings.simplefilter("error", InexactWarning)
        for network in networks.all_networks():
            network.publish(network.train(seed=0), folder)
    return folder


@pytest.fixture(scope="session")
def networks_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the seven networks; shared by all tests, so none may stop it."""
    log = tmp_path_factory.mktemp("networks") / "log"
    with Server(log, repository, "--shared-memory") as server:
        yield server


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of `files.EXAMPLES`."""
    folder = tmp_path_factory.mktemp("examples")
    for name, build in files.EXAMPLES.items():
        files.save(build(), folder, name)
    return folder


@pytest.fixture(scope="session")
def server(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the examples with two shards; shared by all tests, so none may stop it."""
    with Server(tmp_path_factory.mktemp("server") / "log", examples, "--shards=2") as server:
        yield server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers for one test: arguments of `sigmax serve`, and those of `Server`, to one."""
    with ExitStack() as running:

        def start(*arguments: str | Path, **others: Any) -> Server:
            log = tmp_path / f"server-{os.urandom(4).hex()}.log"
            return running.enter_context(Server(log, *arguments, **others))

        yield start


@pytest.fixture
def target(serve: Serve, tmp_path: Path, request: pytest.FixtureRequest) -> Target:
    """Starts a server of one small model, and of what else is given, on one shard; see `EITHER`."""

    def start(*arguments: str | Path) -> Server:
        files.save(files.softmax(), tmp_path / "good", MODEL)
        arguments = (tmp_path / "good", "--shards=1", *arguments)
        if getattr(request, "param", "plain") == "plain":
            return serve(*arguments)
        authority = Authority(tmp_path / "certificates")
        return serve(*arguments, *authority.issue().flags, authority=authority.path)

    return start
