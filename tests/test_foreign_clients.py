"""grpc-go, grpc-js and grpcurl read our answers and errors as their own stacks do."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google.rpc  # type: ignore[import-untyped]
import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
from support import files
from support.certificates import Authority
from support.server import Server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FOREIGN = ROOT / "tests/foreign"
PROTO = ROOT / "proto"
GO_MODULE = "sigmax.test/foreign"
# Where Go packages of the protos are generated to.
GO_PACKAGES = {
    "sigmax/v1/classifier.proto": f"{GO_MODULE}/gen/sigmaxv1",
    "inference/grpc_service.proto": f"{GO_MODULE}/gen/inference",
    "inference/model_config.proto": f"{GO_MODULE}/gen/inference",
}
GO_TOOLS = [
    "google.golang.org/protobuf/cmd/protoc-gen-go",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
    "github.com/fullstorydev/grpcurl/cmd/grpcurl",
]
TOKEN = "0123456789abcdef" * 4
MODEL, INPUT, WIDTH = "layers", "x", 10

Outcomes = dict[str, dict[str, Any]]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; an AssertionError with its complaint where it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the Go module with its tools in bin/, at the versions that go.mod pins."""
    if shutil.which("go") is None:
        pytest.skip("go is missing: install Go from https://go.dev/dl")
    folder = tmp_path_factory.mktemp("foreign") / "go"
    shutil.copytree(FOREIGN / "go", folder)
    [needed] = re.findall(r"(?m)^go (.+)$", (folder / "go.mod").read_text())
    found = run("go", "env", "GOVERSION", cwd=ROOT).strip().removeprefix("go")
    if numbers(found) < numbers(needed):
        pytest.skip(f"go is {found}: {needed} or newer is needed")
    run("go", "build", "-o", "bin/", *GO_TOOLS, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def go_client(go: Path) -> list[str | Path]:
    """The command that runs the client in Go."""
    outputs = []
    for plugin in ("go", "go-grpc"):
        outputs += [f"--{plugin}_out={go}", f"--{plugin}_opt=module={GO_MODULE}"]
        outputs += [f"--{plugin}_opt=M{file}={to}" for file, to in GO_PACKAGES.items()]
    path = f"{go / 'bin'}{os.pathsep}{os.environ['PATH']}"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    run(*protoc, *outputs, *GO_PACKAGES, cwd=go, PATH=path)
    run("go", "build", "-o", "bin/client", ".", cwd=go)
    return [go / "bin/client"]


@pytest.fixture(scope="module")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """The command that runs the client in JavaScript, up to the folders of protos."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing: install Node.js from https://nodejs.org")
    folder = tmp_path_factory.mktemp("foreign") / "node"
    shutil.copytree(FOREIGN / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    run("npm", "ci", "--prefer-offline", cwd=folder)
    return ["node", folder / "client.js"]


@pytest.fixture(scope="module")
def go_outcomes(go_client: list[str | Path], server: Server) -> Outcomes:
    """What the client in Go says of each call."""
    return read(run(*go_client, server.grpc, MODEL, INPUT, str(WIDTH), cwd=ROOT))


@pytest.fixture(scope="module")
def node_outcomes(node_client: list[str | Path], server: Server) -> Outcomes:
    """What the client in JavaScript says of each call."""
    folders = [PROTO, Path(google.rpc.__path__[0]).parents[1]]
    return read(run(*node_client, server.grpc, MODEL, INPUT, str(WIDTH), *folders, cwd=ROOT))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of the server over TLS, and of its clients."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_server(
    authority: Authority, examples: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serves the examples over TLS, to clients that show a certificate or a token."""
    folder = tmp_path_factory.mktemp("tls")
    tokens = folder / "tokens"
    tokens.write_text(f"grpcurl: {TOKEN}\n")
    identity = [f"--tls-client-ca={authority.path}", "--tls-client-auth=request"]
    settings = [*authority.issue().flags, *identity, f"--token-file={tokens}"]
    with Server(folder / "log", examples, *settings) as server:
        yield server


@pytest.fixture(scope="module")
def mtls_outcomes(
    go_client: list[str | Path], authority: Authority, tls_server: Server
) -> Outcomes:
    """What the client in Go says of each call over TLS, to which it shows a certificate."""
    caller = authority.issue("go.example")
    files = (authority.path, caller.certificate, caller.key)
    return read(run(*go_client, tls_server.grpc, MODEL, INPUT, str(WIDTH), *files, cwd=ROOT))


@pytest.fixture(params=["go", "node", "mtls"])
def outcomes(request: pytest.FixtureRequest) -> Outcomes:
    """What a client says of each call, for each language."""
    said: Outcomes = request.getfixturevalue(f"{request.param}_outcomes")
    return said


@pytest.fixture(params=["Classify", "ModelInfer", "ModelStreamInfer"])
def call(request: pytest.FixtureRequest) -> str:
    """Each of the calls."""
    name: str = request.param
    return name


def read(printed: str) -> Outcomes:
    said: Outcomes = json.loads(printed)
    return said


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def expected() -> np.ndarray:
    """The probabilities of a row of a 1 and then zeros, by ONNX Runtime in this process."""
    session = onnxruntime.InferenceSession(files.layers().SerializeToString())
    row = np.eye(1, WIDTH, dtype=np.float32)
    return np.asarray(session.run(None, {INPUT: row})[0])


@pytest.mark.parametrize("time", ["good", "again", "compressed"])
def test_a_right_request_is_answered(outcomes: Outcomes, call: str, time: str) -> None:
    said = outcomes[f"{call} {time}"]
    assert (said["code"], said["message"]) == (0, "")
    assert np.array_equal(np.array([said["probabilities"]], np.float32), expected())


def test_a_wrong_shape_is_named(outcomes: Outcomes, call: str) -> None:
    said = outcomes[f"{call} shape"]
    assert (said["code"], said["reason"]) == (3, "SHAPE_MISMATCH")
    assert re.search(r"-1, ?10\b.* got \[1, ?11\]", said["message"])


def test_an_unknown_model_is_named(outcomes: Outcomes, call: str) -> None:
    said = outcomes[f"{call} model"]
    assert (said["code"], said["reason"]) == (5, "UNKNOWN_MODEL")
    assert "'nobody'" in said["message"]


@pytest.mark.parametrize("call", ["Classify", "ModelInfer"])
def test_a_deadline_that_passed_is_said(outcomes: Outcomes, call: str) -> None:
    # grpc-go says it itself; grpc-js is given no clock of its own, so there it is the server.
    assert outcomes[f"{call} deadline"]["code"] == 4


@pytest.mark.parametrize("call", ["Classify", "ModelInfer"])
def test_the_server_says_that_a_deadline_passed(node_outcomes: Outcomes, call: str) -> None:
    assert node_outcomes[f"{call} deadline"]["reason"] == "DEADLINE_EXCEEDED"


@pytest.fixture
def grpcurl(go: Path, server: Server) -> Callable[..., str]:
    """Asks the server with grpcurl, which knows it by reflection alone."""

    def ask(*arguments: str, request: object = None) -> str:
        data = [] if request is None else ["-d", json.dumps(request)]
        return run(go / "bin/grpcurl", "-plaintext", *data, server.grpc, *arguments, cwd=go)

    return ask


def test_grpcurl_lists_the_services(grpcurl: Callable[..., str]) -> None:
    services = grpcurl("list").split()
    assert {
        "grpc.health.v1.Health",
        "inference.GRPCInferenceService",
        "sigmax.v1.ClassifierService",
    } <= set(services)


def test_grpcurl_classifies(grpcurl: Callable[..., str]) -> None:
    values = {"floats": [1, *[0] * (WIDTH - 1)]}
    request = {"model_name": MODEL, "inputs": [{"shape": [1, WIDTH], "values": values}]}
    answer = json.loads(grpcurl("sigmax.v1.ClassifierService/Classify", request=request))
    [row] = answer["rows"]
    best = int(expected()[0].argmax())
    assert row["decision"][0]["label"] == "abcde"[best]
    assert np.float32(row["decision"][0]["probability"]) == expected()[0, best]


def test_grpcurl_prints_the_details_of_an_error(go: Path, server: Server) -> None:
    request = json.dumps({"model_name": "fish"})
    command = [str(go / "bin/grpcurl"), "-plaintext", "-d", request, server.grpc]
    call = "sigmax.v1.ClassifierService/Classify"
    done = subprocess.run([*command, call], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert '"reason": "UNKNOWN_MODEL"' in done.stderr, done.stderr


def test_grpcurl_over_tls_with_a_token(go: Path, authority: Authority, tls_server: Server) -> None:
    options = ["-cacert", str(authority.path), "-H", f"authorization: Bearer {TOKEN}"]
    request = json.dumps({"model_name": MODEL})
    command = [str(go / "bin/grpcurl"), *options, "-d", request, tls_server.grpc]
    described = run(*command, "sigmax.v1.ClassifierService/GetModel", cwd=go)
    assert json.loads(described)["model"]["name"] == MODEL


def test_grpcurl_without_a_token_is_told_why(
    go: Path, authority: Authority, tls_server: Server
) -> None:
    command = [str(go / "bin/grpcurl"), "-cacert", str(authority.path), tls_server.grpc, "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "Unauthenticated" in done.stderr
