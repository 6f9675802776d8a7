import os
import subprocess
import sys
from importlib.metadata import version

import sigmax_server.installed

HEAVY = {"click", "google", "grpc", "numpy", "onnx", "onnxruntime", "rich", "torch", "typer"}


def python(code: str, **environment: str) -> str:
    """Run code in a fresh interpreter; what it prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_the_control_plane_imports_nothing_heavy() -> None:
    code = "import sys, sigmax_server.cli, sigmax_server.serve; print(*sys.modules)"
    modules = {name.partition(".")[0] for name in python(code).split()}
    assert "sigmax_server" in modules
    assert not modules & HEAVY


def test_telemetry_is_off_whatever_the_environment_says() -> None:
    code = "import sigmax_server, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert python(code, ORT_DISABLE_TELEMETRY="0") == "1\n"


def test_the_version_is_the_distributions() -> None:
    assert sigmax_server.__version__ == version("sigmax-server")


def test_the_version_of_what_has_no_record_is_unknown() -> None:
    assert sigmax_server.installed.version("sigmax_nothing") == "unknown"
