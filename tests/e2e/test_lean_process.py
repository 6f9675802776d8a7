"""The serving process loads only what it needs, and sends no telemetry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.server import Server


def test_nothing_heavy_is_loaded(server: Server) -> None:
    mapped = {
        Path(line.split()[-1]).name
        for line in Path(f"/proc/{server.process.pid}/maps").read_text().splitlines()
        if "/" in line
    }
    assert any(name.startswith("libonnxruntime.so") for name in mapped)
    assert any(name.startswith("_native") for name in mapped)
    for library in ("pybind11_state", "multiarray", "cygrpc", "torch", "onnx_cpp2py", "_upb"):
        assert not [name for name in mapped if library in name], library


@pytest.mark.parametrize("package", ["sigmax_server", "sigmax_models"])
@pytest.mark.parametrize("setting", ["", "0"])
def test_telemetry_of_onnx_runtime_is_off_whatever_the_environment_says(
    package: str, setting: str
) -> None:
    code = f"import os, {package}; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ORT_DISABLE_TELEMETRY": setting},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def test_the_server_connects_to_nobody(server: Server) -> None:
    server.client.models()
    own = {int(server.grpc.rpartition(":")[2]), int(server.http.rpartition(":")[2])}
    sockets = {
        str(link.readlink())
        for link in Path(f"/proc/{server.process.pid}/fd").iterdir()
        if link.is_symlink()
    }
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{server.process.pid}/net/{table}").read_text().splitlines()[1:]
    ]
    ports = {
        int(line[1].rpartition(":")[2], 16) for line in lines if f"socket:[{line[9]}]" in sockets
    }
    assert ports == own
