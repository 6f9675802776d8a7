"""The programs in docs/clients.md ask a server over TLS with a token, in each language."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2_grpc  # type: ignore[import-untyped]
from sigmax.v1 import classifier_pb2 as pb
from sigmax.v1 import classifier_pb2_grpc

ROOT = Path(__file__).parents[1]
FOREIGN = ROOT / "tests/foreign"
TOKEN = "a-token-of-this-test"
MODULE = "sigmax.test/foreign"


class Service(classifier_pb2_grpc.ClassifierServiceServicer):
    """Lists one model to those who have the token."""

    def ListModels(  # noqa: N802
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        if ("authorization", f"Bearer {TOKEN}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "expected the token")
        return pb.ListModelsResponse(models=[pb.ModelSummary(name="animal")])


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Address of a server with TLS; the files `ca.pem` and `token` are beside it in tmp_path."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    issued = ca.issue_cert("localhost")
    pair = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    server = grpc.server(ThreadPoolExecutor(4))
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(Service(), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield f"localhost:{port}"
    server.stop(None).wait()


def program(language: str) -> str:
    """Return the one program of a language on the page."""
    page = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    [found] = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page)
    return str(found)


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout


def test_python(address: str, tmp_path: Path) -> None:
    text = program("python")
    assert '"sigmax.example"' in text
    (tmp_path / "client.py").write_text(text.replace("sigmax.example", address))
    assert "name='animal'" in run(sys.executable, "client.py", cwd=tmp_path)


def test_the_command(address: str, tmp_path: Path) -> None:
    page = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?m)^    (sigmax .*--address sigmax\.example .*)$", page)
    assert len(commands) == 2
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    printed = [
        run("sh", "-c", command.replace("sigmax.example", address), cwd=tmp_path, PATH=path)
        for command in commands
    ]
    assert '"name": "animal"' in printed[0]
    assert '"status": "SERVING"' in printed[1]


@pytest.mark.slow
def test_go(address: str, tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("go is missing: install Go from https://go.dev/dl")
    folder = tmp_path / "go"
    shutil.copytree(FOREIGN / "go", folder)
    tools = (
        "google.golang.org/protobuf/cmd/protoc-gen-go",
        ("google.golang.org/grpc/cmd/protoc-gen-go-grpc"),
    )
    run("go", "build", "-o", "bin/", *tools, cwd=folder)
    package = f"sigmax/v1/classifier.proto={MODULE}/gen/sigmaxv1"
    outputs = [
        part
        for plugin in ("go", "go-grpc")
        for part in (
            f"--{plugin}_out=.",
            f"--{plugin}_opt=module={MODULE}",
            f"--{plugin}_opt=M{package}",
        )
    ]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    run(*protoc, *outputs, "sigmax/v1/classifier.proto", cwd=folder, PATH=path)
    (folder / "main.go").write_text(program("go"))
    run("go", "build", "-o", "bin/client", ".", cwd=folder)
    assert run(folder / "bin/client", address, cwd=tmp_path) == "animal\n"


@pytest.mark.slow
def test_node(address: str, tmp_path: Path) -> None:
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing: install Node.js from https://nodejs.org")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(FOREIGN / "node" / name, tmp_path)
    run("npm", "ci", "--prefer-offline", cwd=tmp_path)
    (tmp_path / "client.js").write_text(program("js"))
    assert run("node", "client.js", address, ROOT / "proto", cwd=tmp_path) == "animal\n"
