"""More requests than the server can answer, and clients that leave without their answers."""

import asyncio
import resource
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.settings
import numpy as np
import pytest
import sigmax
from support import files
from support.server import Serve, Server
from support.wire import Tensor, at_once, classify_request, infer_request, refusal, triton, typed

PATH = "/inference.GRPCInferenceService/ModelInfer"
ROW = Tensor.of("x", np.zeros((1, 5)))


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """As many open files as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(server: Server) -> int:
    """What the server's process holds, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def is_well(server: Server) -> None:
    """Nothing is left of what happened, and requests are answered."""
    server.until(0, "sigmax_message_bytes")
    server.until(0, "sigmax_queued_rows")
    assert len(at_once(server, "softmax", [ROW] * 100)) == 100


def sent(request: Any, window: int = 65535, part: float = 1) -> bytes:
    """A connection's bytes that ask this, or the first part of it, with this stream window."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration())
    window_size = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
    connection.local_settings = h2.settings.Settings(initial_values={window_size: window})
    connection.initiate_connection()
    head = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", PATH)]
    connection.send_headers(1, [*head, ("te", "trailers"), ("content-type", "application/grpc")])
    message = request.SerializeToString()
    framed = b"\0" + struct.pack(">I", len(message)) + message
    framed = framed[: int(len(framed) * part)]
    for begin in range(0, len(framed), 16384):
        frame = framed[begin : begin + 16384]
        connection.send_data(1, frame, end_stream=part == 1 and begin + 16384 >= len(framed))
    return bytes(connection.data_to_send())


def connected(server: Server) -> socket.socket:
    host, _, port = server.grpc.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


@pytest.mark.slow
def test_five_times_what_can_be_answered(tmp_path: Path, serve: Serve) -> None:
    """Every request ends once, answered rightly or refused for its deadline."""
    files.save(files.slow(8), tmp_path / "repository", "slow")
    files.save(files.softmax(), tmp_path / "repository", "softmax")
    server = serve(tmp_path / "repository", "--shards=1", "--max-batch-size=4")
    values = [Tensor.of("x", [[value / 8]]) for value in range(-32, 32)]
    alone = [at_once(server, "slow", [value])[0].raw for value in values]
    before = server.metric("sigmax_compute_seconds_sum", model="slow") / len(values)
    rate, seconds = 5 / before, 10

    async def load() -> list[tuple[int, Any]]:
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            call: Any = channel.unary_unary(PATH)
            requests = [infer_request("slow", value).SerializeToString() for value in values]

            async def one(number: int) -> tuple[int, Any]:
                try:
                    return number, await call(requests[number], timeout=0.5)
                except grpc.aio.AioRpcError as error:
                    return number, error.code()

            now = asyncio.get_running_loop().time
            tasks: list[asyncio.Task[tuple[int, Any]]] = []
            begun = now()
            while (number := len(tasks)) < rate * seconds:
                tasks.append(asyncio.create_task(one(number % len(values))))
                if number % 100 == 0:
                    memory.append(resident(server))
                # Requests begin when they are due, whatever became of those before.
                await asyncio.sleep(max(0, begun + number / rate - now()))
            return await asyncio.gather(*tasks)

    memory: list[int] = []
    ends = asyncio.run(load())
    fates = Counter("answered" if isinstance(end, bytes) else end for _, end in ends)
    assert set(fates) == {"answered", grpc.StatusCode.DEADLINE_EXCEEDED}
    assert all(end.endswith(alone[number]) for number, end in ends if isinstance(end, bytes))
    assert fates["answered"] > 0  # how many is for the benchmark to say
    half = len(memory) // 2
    assert max(memory[half:]) < max(memory[:half]) + 16 * 2**20
    is_well(server)
    assert at_once(server, "slow", values[:8]) is not None


@pytest.mark.slow
def test_ten_thousand_clients_that_vanish_in_the_middle(examples: Path, serve: Serve) -> None:
    server = serve(examples)
    half = sent(infer_request("softmax", Tensor.of("x", np.zeros((500, 5)))), part=0.5)
    is_well(server)  # by a connection that stays
    memory = []
    for _ in range(2):
        for _ in range(5_000):
            with connected(server) as client:
                client.sendall(half)
        server.until(1, "sigmax_open_connections")
        is_well(server)
        memory.append(resident(server))
    assert memory[1] < memory[0] + 32 * 2**20


@pytest.mark.slow
def test_a_thousand_clients_that_take_no_answer(examples: Path, serve: Serve) -> None:
    """They hold a bounded memory, harm nobody, and are cut off in the end."""
    budget = 8 * 2**20
    server = serve(examples, "--stall-seconds=4", f"--memory-budget={budget}")
    big = infer_request("softmax", Tensor.of("x", np.zeros((500, 5))))
    never = sent(big, window=0)
    with ExitStack() as clients:
        for _ in range(1000):
            client = clients.enter_context(connected(server))
            client.sendall(never)
        # A quarter more is for what is small, as each of these is.
        assert server.metric("sigmax_message_bytes") <= budget * 1.25
        # One who takes his answers is answered, though not always at the first try.
        with sigmax.Client(server.grpc, timeout=60, retries=1000) as good:
            assert good.classify("softmax", np.zeros((1, 5))).probability > 0
        server.until(0, "sigmax_message_bytes")
        stalled = server.metric("sigmax_connections_stalled_total")
        # The others found no room for their request, and have been told so.
        assert stalled > 100
        server.until(1000 - stalled, "sigmax_open_connections")
    is_well(server)


@pytest.mark.slow
def test_a_message_that_does_not_end_is_cut_off(examples: Path, serve: Serve) -> None:
    server = serve(examples, "--stall-seconds=0.2")
    with connected(server) as client:
        client.sendall(sent(infer_request("softmax", ROW), part=0.5))
        while client.recv(65536):
            pass
    assert server.metric("sigmax_connections_stalled_total") == 1
    is_well(server)


def test_who_asks_nothing_may_stay(examples: Path, serve: Serve) -> None:
    """Only a message that waits is counted, not a connection that has none."""
    server = serve(examples, "--stall-seconds=0.1")
    with connected(server) as waiting:
        waiting.sendall(sent(infer_request("softmax", ROW)))
        with connected(server) as other:
            other.sendall(sent(infer_request("softmax", ROW), part=0.5))
            while other.recv(65536):
                pass
        assert server.metric("sigmax_open_connections") >= 1
        assert server.metric("sigmax_connections_stalled_total") == 1


@pytest.mark.slow
def test_a_storm_of_deadlines(tmp_path: Path, serve: Serve) -> None:
    files.save(files.slow(8), tmp_path / "repository", "slow")
    files.save(files.softmax(), tmp_path / "repository", "softmax")
    server = serve(tmp_path / "repository", "--shards=1")
    send = triton(server).ModelInfer.future
    models = {"slow": Tensor.of("x", [[0]]), "softmax": ROW}
    calls = [
        send(infer_request(model, tensor), timeout=number % 20 / 1000)
        for number in range(2000)
        for model, tensor in models.items()
    ]
    codes = {call.code() for call in calls}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert grpc.StatusCode.DEADLINE_EXCEEDED in codes
    is_well(server)


def test_a_flood_on_one_model_and_connection_starves_nobody(examples: Path, serve: Serve) -> None:
    server = serve(examples, "--shards=1")
    channel = grpc.insecure_channel(server.grpc, options=[("grpc.use_local_subchannel_pool", 1)])
    flood: Any = channel.unary_unary(PATH)
    rows = infer_request("softmax", Tensor.of("x", np.zeros((60, 5)))).SerializeToString()
    calls = [flood.future(rows, timeout=60) for _ in range(1000)]
    for _ in range(20):
        assert server.client.classify("sigmoid", np.zeros((1, 1))).probability > 0
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}
    channel.close()


@pytest.mark.slow
def test_what_finds_no_memory_is_told_when_to_return(examples: Path, serve: Serve) -> None:
    server = serve(examples, "--max-batch-size=10000", f"--memory-budget={2**20}")
    rows = Tensor.of("x", np.zeros((1000, 5)))
    half = sent(infer_request("softmax", rows), part=0.9)
    request = classify_request("softmax", Tensor.of("x", np.zeros((10_000, 5))))
    with ExitStack() as clients:
        for _ in range(50):
            clients.enter_context(connected(server)).sendall(half)
        while server.metric("sigmax_message_bytes") < 850_000:
            pass
        found = refusal(lambda: typed(server).Classify(request, timeout=60))
        assert (found.code, found.reason) == ("RESOURCE_EXHAUSTED", "MEMORY_BUDGET")
        assert found.retry_after
        assert server.metric("sigmax_refused_total", model="", reason="no_memory") == 1
        assert server.client.classify("softmax", np.zeros((1, 5))).probability > 0
    is_well(server)
    assert len(typed(server).Classify(request, timeout=60).rows) == 10_000
