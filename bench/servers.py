"""Server processes: started on chosen cores, watched through /proc, ended."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build/bench"


@dataclass(frozen=True)
class Server:
    """A server that has said it is ready.

    Attributes:
        name: For people, such as "grpcio".
        address: Host and port of its gRPC service.
        pid: Its process.
        ready_seconds: From the start of the command to the line that says it is ready.
    """

    name: str
    address: str
    pid: int
    ready_seconds: float

    def cpu_seconds(self) -> float:
        """CPU time it has used so far, in user and system mode, over all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Memory it holds now (VmRSS)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def sigmax(repository: Path, cores: set[int]) -> Iterator[Server]:
    """`sigmax serve` of this repository on these cores, while the context lasts."""
    port = free_port()
    command = [f"{Path(sys.executable).parent}/sigmax", "serve", str(repository)]
    command += ["--grpc-port", str(port), "--http-port", str(free_port()), "--shared-memory"]
    with _running("sigmax", command, f"127.0.0.1:{port}", cores) as server:
        yield server


@contextmanager
def grpcio(model: Path, cores: set[int]) -> Iterator[Server]:
    """The hand-written server of this model file on these cores, while the context lasts."""
    port = free_port()
    command = [sys.executable, "bench/peers/grpcio_server.py", str(model), str(port)]
    with _running("grpcio", command, f"127.0.0.1:{port}", cores) as server:
        yield server


@contextmanager
def _running(name: str, command: list[str], address: str, cores: set[int]) -> Iterator[Server]:
    BUILD.mkdir(parents=True, exist_ok=True)
    pinned = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command]
    log = BUILD / f"{name}.log"
    started = time.perf_counter()
    with log.open("w") as errors:
        process = subprocess.Popen(
            pinned, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    with process:
        try:
            assert process.stdout is not None
            if not any(line.startswith("ready") for line in process.stdout):
                raise RuntimeError(f"{name} ended before it was ready: {log.read_text()}")
            yield Server(name, address, process.pid, time.perf_counter() - started)
        finally:
            process.terminate()
