"""The fate of the server's output influences neither its life nor its exit code."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import files
from support.server import Serve, Server, after
from support.wire import Tensor, infer, infer_request, refusal
from tritonclient.grpc import (  # type: ignore[import-untyped]
    service_pb2,
    service_pb2_grpc,
)

pytestmark = pytest.mark.slow

PATIENCE = 60  # most seconds that anything here may take
SIGMAX = Path(sys.executable).with_name("sigmax")
X = Tensor.of("x", [[0.5]])
STOPPING = b"stopping: what was accepted is answered"


class Run:
    """A server whose output may be lost, so that its ports are chosen before and not read."""

    def __init__(self, process: "subprocess.Popen[bytes]", ports: list[int]) -> None:
        self.process = process
        self.grpc, self.http = (f"127.0.0.1:{port}" for port in ports)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=PATIENCE) as reply:
            return str(reply.read().decode())

    def until_ready(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, f"it has ended with {self.process.returncode}"
            assert time.monotonic() < end, "it is not ready"
            try:
                self.get("/readyz")
            except OSError:  # the server does not listen yet, or is not ready
                continue
            return

    def asking(self, count: int) -> list["grpc.Future[Any]"]:
        """Send slow requests, and return them once the first has been answered."""
        self.channel = grpc.insecure_channel(self.grpc)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        request = infer_request("slow", X)
        calls = [stub.ModelInfer.future(request, timeout=PATIENCE) for _ in range(count)]
        calls[0].result()
        return calls

    def dropped(self) -> int:
        name = "sigmax_log_lines_dropped_total"
        [number] = re.findall(rf"^{name} (\d+)$", self.get("/metrics"), re.MULTILINE)
        return int(number)

    def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        return self.process.wait(PATIENCE)


@contextmanager
def running(
    *arguments: str | Path, before: str = ":", log: str = "", **streams: Any
) -> Iterator[Run]:
    """Run a server with these streams, as arguments of `subprocess` or as commands of a shell."""
    free = ("127.0.0.1", 0)
    with socket.create_server(free) as one, socket.create_server(free) as other:
        ports = [each.getsockname()[1] for each in (one, other)]
    flags = [f"--{name}-port={port}" for name, port in zip(("grpc", "http"), ports, strict=True)]
    process = subprocess.Popen(
        after(before, SIGMAX, "serve", *flags, *arguments),
        env={**os.environ, "SIGMAX_LOG": log},
        **streams,
    )
    run = Run(process, ports)
    try:
        yield run
    finally:
        if "channel" in vars(run):
            run.channel.close()
        process.kill()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slow")
    files.save(files.slow(turns=6), folder, "slow")
    return folder


@contextmanager
def bad(kind: str, *names: str) -> Iterator[dict[str, Any]]:
    """Yield the arguments of `running` for streams of these names that cannot be written."""
    if kind == "closed":
        closed = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-"}
        yield {"before": " ".join(["exec", *(closed[name] for name in names)])}
        return
    opened = [os.open("/dev/full", os.O_WRONLY)] if kind == "full" else [*reversed(os.pipe())]
    if kind == "gone":
        os.close(opened.pop())
    elif kind == "unread":
        size = fcntl.fcntl(opened[0], fcntl.F_SETPIPE_SZ, 4096)
        os.write(opened[0], bytes(size))
    try:
        yield dict.fromkeys(names, opened[0])
    finally:
        for number in opened:
            os.close(number)


BAD = ["full", "closed", "gone", "unread"]


@pytest.mark.parametrize("names", [["stdout"], ["stderr"], ["stdout", "stderr"]], ids="+".join)
@pytest.mark.parametrize("kind", BAD)
def test_a_server_whose_output_is_lost_answers_everything(
    slow: Path, kind: str, names: list[str]
) -> None:
    with bad(kind, *names) as streams, running(slow, **streams) as run:
        run.until_ready()
        calls = run.asking(8)
        assert run.end() == 0
        assert [call.exception() for call in calls] == [None] * 8


@pytest.mark.parametrize("kind", BAD)
def test_a_start_that_fails_says_so_by_its_exit_code(tmp_path: Path, kind: str) -> None:
    with bad(kind, "stdout", "stderr") as streams, running(tmp_path / "none", **streams) as run:
        assert run.process.wait(PATIENCE) == 1


def test_no_socket_takes_the_number_of_a_closed_stream(slow: Path) -> None:
    with bad("closed", "stdin", "stdout", "stderr") as streams, running(slow, **streams) as run:
        run.until_ready()
        links = [Path(f"/proc/{run.process.pid}/fd/{number}") for number in range(3)]
        assert [str(link.readlink()) for link in links] == ["/dev/null"] * 3
        assert run.end() == 0


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_reader_that_is_ended_too_changes_nothing(slow: Path, by: signal.Signals) -> None:
    """The reader ends first, as with Ctrl-C at `sigmax serve 2>&1 | tee log`."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with running(slow, **streams) as run:
        run.until_ready()
        calls = run.asking(8)
        assert run.process.stdout is not None
        run.process.stdout.close()
        assert run.end(by) == 0
        assert [call.exception() for call in calls] == [None] * 8


@contextmanager
def unread(slow: Path) -> Iterator[tuple[Run, int]]:
    """Run a server that logs more than fits into an unread pipe; yield it and the pipe's end."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with running(slow, "--shards=2", log="trace", stderr=writer) as run:
            os.close(writer)
            run.until_ready()
            end = time.monotonic() + PATIENCE
            with grpc.insecure_channel(run.grpc) as channel:
                ask = service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive.future
                while run.dropped() == 0:
                    assert time.monotonic() < end, "nothing is dropped"
                    calls = [ask(service_pb2.ServerLiveRequest()) for _ in range(100)]
                    assert all(call.result().live for call in calls)
            yield run, reader
    finally:
        os.close(reader)


def test_nothing_waits_for_a_log_that_nobody_reads(slow: Path) -> None:
    with unread(slow) as (run, _):
        assert run.get("/healthz") == "alive\n"
        calls = run.asking(8)
        assert run.end() == 0
        assert [call.exception() for call in calls] == [None] * 8


def test_a_gap_in_the_log_is_told_in_its_place(slow: Path) -> None:
    told = re.compile(rb"^warning: (\d+) lines of the log were dropped", re.MULTILINE)
    with unread(slow) as (run, reader):
        log = b""
        while not (gap := told.search(log)):
            log += os.read(reader, 65536)
        assert 0 < int(gap[1]) <= run.dropped()


def test_the_second_hangup_of_a_terminal_is_not_the_second_signal(slow: Path) -> None:
    with running(slow, stderr=subprocess.PIPE) as run:
        run.until_ready()
        calls = run.asking(8)
        run.process.send_signal(signal.SIGHUP)
        assert run.process.stderr is not None
        assert STOPPING in run.process.stderr.readline()
        assert run.end(signal.SIGHUP) == 0
        assert [call.exception() for call in calls] == [None] * 8
        with run.process.stderr as rest:
            assert rest.read() == b""


def test_a_server_that_nohup_started_outlives_its_terminal(slow: Path) -> None:
    with running(slow, before="trap '' HUP") as run:
        run.until_ready()
        status = Path(f"/proc/{run.process.pid}/status").read_text()
        [blocked] = re.findall(r"SigBlk:\s*(\w+)", status)
        assert not int(blocked, 16) & 1 << signal.SIGHUP - 1  # a blocked signal would be pending
        run.process.send_signal(signal.SIGHUP)
        assert run.asking(1)[0].result()
        assert run.end() == 0


def test_a_message_is_one_line_whatever_is_in_it(serve: Serve, tmp_path: Path) -> None:
    model = files.embedding()
    forged = "x\nready: gRPC 6.6.6.6:1, HTTP 6.6.6.6:2; \x1b[2J"
    for number, node in enumerate(model.graph.node):
        node.name = f"{forged} {number}"
    files.save(model, tmp_path, "embedding")
    server = serve(tmp_path)
    fail(server, 1)
    server.stop()
    [line] = [line for line in server.log().splitlines() if "a request failed" in line]
    assert "ready: gRPC 6.6.6.6:1" in line
    assert "\\u{1b}[2J" in line
    assert "\x1b" not in server.log()


def test_a_warning_that_comes_again_and_again_is_counted(serve: Serve, tmp_path: Path) -> None:
    files.save(files.embedding(), tmp_path, "embedding")
    server = serve(tmp_path)
    fail(server, 300)
    server.stop()
    told = re.findall(r" (\d+) more lines like this one in 10s: a request failed", server.log())
    assert told
    written = server.log().count("a request failed") - len(told)
    assert written + sum(map(int, told)) == 300


def fail(server: Server, times: int) -> None:
    """Send requests that fail, each of which is logged."""
    x = Tensor.of("x", [[99, 0, 0, 0]], "int64")
    for _ in range(times):
        assert refusal(lambda: infer(server, "embedding", x)).code == "INVALID_ARGUMENT"
