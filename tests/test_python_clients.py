"""Clients written for Triton and KServe, unmodified, each in an environment of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority
from support.server import Server
from support.uv import make_environment

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parent / "foreign/python"
DTYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
DTYPES += ["FP16", "BF16", "FP32", "FP64", "BYTES"]

# What tritonclient_calls.py says of a server that does all that it can be asked for.
TRITON = {
    "describe": {
        "live": True,
        "ready": True,
        "model ready": True,
        "unknown model ready": False,
        "server": "triton",
        "inputs": ["INPUT0", "INPUT1"],
        "max_batch_size": 1024,
        "statistics": True,
        "log settings": True,
        "index": True,
    },
    "infer": {
        "infer": True,
        "async infer": True,
        "options": True,
        "gzip": True,
        "deflate": True,
        "error": "StatusCode.INVALID_ARGUMENT",
    },
    "types": DTYPES,
    "classify": ["2:c", "3:d"],
    "typed": True,
    "stream": ["0", "Request for unknown model: 'fish' is not found", "2"],
    "shared memory": True,
    "control": [True, False, True],
    "asyncio": {
        "live": True,
        "ready": True,
        "infer": True,
        "gzip and deflate": True,
        "stream": True,
        "shared memory": True,
        "error": "StatusCode.INVALID_ARGUMENT",
    },
}

Environment = Callable[[str], Path]

needs_numpy_1 = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="it needs NumPy 1, which has no wheels for Python 3.13"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Makes an environment with what a file of requirements names; returns its Python."""

    def make(requirements: str) -> Path:
        folder = tmp_path_factory.mktemp("client") / requirements
        return make_environment(PROGRAMS / f"{requirements}.txt", folder)

    return make


@pytest.fixture
def all_on(examples: Path, tmp_path: Path) -> Iterator[Server]:
    """Serves the examples with everything that is off by default."""
    settings = ("--shared-memory", "--model-control=explicit", "--load-model=*")
    with Server(tmp_path / "log", examples, *settings) as server:
        yield server


def said(python: Path | str, program: str, address: str, *arguments: str) -> dict[str, Any]:
    """What a program prints of the server at this address."""
    command = [python, PROGRAMS / program, address, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize("version", ["2.73", pytest.param("2.50", marks=needs_numpy_1)])
def test_tritonclient(all_on: Server, environment: Environment, version: str) -> None:
    python = sys.executable if version == "2.73" else environment(f"tritonclient-{version}")
    assert said(python, "tritonclient_calls.py", all_on.grpc) == TRITON


def test_tritonclient_over_tls_with_a_certificate(examples: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    caller = authority.issue("vision.example")
    access = tmp_path / "access.toml"
    access.write_text(
        '[[rule]]\nwho = ["vision.example"]\nmay = ["classify", "infer", "control"]\n'
    )
    settings = ("--shared-memory", "--model-control=explicit", "--load-model=*")
    identity = (f"--tls-client-ca={authority.path}", f"--access={access}")
    options = {
        "ssl": True,
        "root_certificates": str(authority.path),
        "private_key": str(caller.key),
        "certificate_chain": str(caller.certificate),
    }
    with Server(
        tmp_path / "log", examples, *settings, *authority.issue().flags, *identity
    ) as server:
        program = "tritonclient_calls.py"
        assert said(sys.executable, program, server.grpc, json.dumps(options)) == TRITON


@needs_numpy_1
def test_pytriton(server: Server, environment: Environment) -> None:
    assert said(environment("pytriton"), "pytriton_calls.py", server.grpc) == {
        "max_batch_size": 1024,
        "best": 2,
        "same": True,
    }


def test_kserve(server: Server, environment: Environment) -> None:
    assert said(environment("kserve"), "kserve_calls.py", server.grpc) == {
        "live": True,
        "ready": True,
        "model ready": True,
        "best": {"raw": 2, "typed": 2},
    }
