"""Starts server processes on chosen cores, measures them through /proc, and ends them."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build/bench"
EXAMPLES = ROOT / "server/target/release/examples"
SIGMAX = Path(sys.executable).parent / "sigmax"
READY = re.compile(r"ready: gRPC (?P<grpc>[^\s,]+),.* HTTP (?P<http>[^;,]+)")


@dataclass(frozen=True)
class Server:
    """A server process that has reported that it is ready.

    Attributes:
        name: Name for people, such as "grpcio".
        address: Address of the gRPC service: HOST:PORT or unix:PATH.
        http: Address of the metrics, HOST:PORT; "none" where it has none.
        pid: Id of the process.
        ready_seconds: Seconds from the start of the command to the line that says it is ready.
        authority: File of the authority of the server's certificate; None: it is asked plainly.
    """

    name: str
    address: str
    http: str
    pid: int
    ready_seconds: float
    authority: Path | None = None

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that all threads have used so far, in user and system mode."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Return the resident memory in bytes (VmRSS)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def open_files(self) -> int:
        """Return the number of open file descriptors, connections included."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - a count needs no paths

    def metric(self, name: str, model: str) -> float:
        """Return a metric of one model, summed over all its other labels."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        values = re.findall(rf'^{name}{{[^}}]*model="{model}"[^}}]*}} (\S+)$', text, re.MULTILINE)
        return sum(map(float, values))

    def batch_rows(self, model: str, ask: Callable[[], object]) -> float:
        """Return the mean rows of a model's batches while `ask` runs."""
        names = ("sigmax_batch_rows_sum", "sigmax_batch_rows_count")
        before = [self.metric(name, model) for name in names]
        ask()
        rows, batches = (
            self.metric(name, model) - earlier for name, earlier in zip(names, before, strict=True)
        )
        return rows / batches

    def at(self, address: str) -> "Server":
        """Return the same server with another of its addresses."""
        return replace(self, address=address)

    def over(self, authority: Path) -> "Server":
        """Return the same server, asked over TLS with a certificate of this authority."""
        return replace(self, authority=authority)


def takes(flag: str) -> bool:
    """Return whether this `sigmax serve` has the flag."""
    command = [str(SIGMAX), "serve", "--help"]
    return flag in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build_examples() -> None:
    """Build the no-op server, the bare echo and the load driver: `server/core/examples`."""
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--examples"]
    manifest = ["--manifest-path", str(ROOT / "server/Cargo.toml"), "--package", "sigmax-core"]
    subprocess.run([*command, *manifest], check=True)


@contextmanager
def sigmax(
    repositories: Sequence[Path],
    cores: set[int],
    *flags: str,
    name: str = "sigmax",
    command: Path = SIGMAX,
) -> Iterator[Server]:
    """Run `sigmax serve` with these repositories on these cores, until the context ends."""
    ports = ["--grpc-port=0", "--http-port=0"]
    words = [str(command), "serve", *map(str, repositories), *ports, *flags]
    with _running(name, words, cores) as server:
        yield server


@contextmanager
def noop(cores: set[int]) -> Iterator[Server]:
    """Run the server's core with an engine that does no work, until the context ends."""
    with _running("no-op engine", [str(EXAMPLES / "noop")], cores) as server:
        yield server


@contextmanager
def echo(cores: set[int], reply_bytes: int, address: str = "127.0.0.1:0") -> Iterator[Server]:
    """Run the bare echo, which answers with `reply_bytes` bytes, until the context ends."""
    command = [str(EXAMPLES / "echo"), str(reply_bytes), address]
    with _running("bare echo", command, cores) as server:
        yield server


@contextmanager
def grpcio(model: Path, cores: set[int]) -> Iterator[Server]:
    """Run the hand-written server with this model file on these cores, until the context ends."""
    command = [sys.executable, "bench/peers/grpcio_server.py", str(model)]
    with _running("grpcio", command, cores) as server:
        yield server


@contextmanager
def _running(name: str, command: list[str], cores: set[int]) -> Iterator[Server]:
    BUILD.mkdir(parents=True, exist_ok=True)
    log = BUILD / f"{name}.log"
    started = time.perf_counter()
    with log.open("w") as errors:
        process = subprocess.Popen(
            pinned(cores, command), cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    with process:
        try:
            assert process.stdout is not None
            ready = next(filter(None, map(READY.match, process.stdout)), None)
            if ready is None:
                raise RuntimeError(f"{name} ended before it was ready: {log.read_text()}")
            seconds = time.perf_counter() - started
            yield Server(name, ready["grpc"], ready["http"], process.pid, seconds)
        finally:
            process.terminate()


def pinned(cores: set[int], command: list[str]) -> list[str]:
    """Return the command with a prefix that keeps it on these cores."""
    return ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command]
