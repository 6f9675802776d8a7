"""A rolling restart of two servers loses no request of a client that knows both."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sigmax
from support import files
from support.server import Serve, Server

THREADS = 8
ROW = [0.5] * 10


class Callers:
    """Threads that classify one after the other, over one client, until they are told to end."""

    def __init__(self, client: sigmax.Client) -> None:
        self._client = client
        self._ended = threading.Event()
        self.outcomes: Counter[str] = Counter()

    def call(self) -> None:
        while not self._ended.is_set():
            try:
                self._client.classify("layers", ROW)
                self.outcomes["good"] += 1
            except sigmax.SigmaxError as error:
                self.outcomes[str(error)] += 1

    @contextmanager
    def calling(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.call) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()


def until_asked(server: Server) -> None:
    """Wait until a server has answered requests of the callers."""
    before = server.metric("sigmax_requests_total", code="OK")
    while server.metric("sigmax_requests_total", code="OK") < before + 2 * THREADS:
        assert server.process.poll() is None


@pytest.mark.parametrize("retries", [None, 0], ids=["with retries", "without retries"])
def test_no_request_is_lost(serve: Serve, tmp_path: Path, retries: int | None) -> None:
    files.save(files.layers(), tmp_path, "layers")
    servers = [serve(tmp_path, "--shards=1") for _ in range(2)]
    addresses = [server.grpc for server in servers]
    with sigmax.Client(addresses, timeout=60, retries=retries) as client:
        client.classify("layers", ROW)
        callers = Callers(client)
        with callers.calling():
            for _ in range(2):
                for place, old in enumerate(servers):
                    until_asked(old)
                    assert old.stop() == 0
                    port = old.grpc.rpartition(":")[2]
                    servers[place] = serve(tmp_path, "--shards=1", f"--grpc-port={port}")
                    until_asked(servers[place])
    print(dict(callers.outcomes))
    assert list(callers.outcomes) == ["good"]


def test_a_server_that_is_not_ready_is_left_out(serve: Serve, tmp_path: Path) -> None:
    """One of two servers has a model that is not served, and so is not ready."""
    for folder in ("whole", "broken"):
        files.save(files.layers(), tmp_path / folder, "layers")
    other = tmp_path / "broken" / "other" / "1"
    other.mkdir(parents=True)
    (other / "model.onnx").write_bytes(b"no model")
    whole, broken = serve(tmp_path / "whole"), serve(tmp_path / "broken")

    async def ask() -> None:
        addresses = [whole.grpc, broken.grpc]
        async with sigmax.AsyncClient(addresses, timeout=60) as client:
            for _ in range(20):
                await client.classify("layers", ROW)

    asyncio.run(ask())
    assert broken.metric("sigmax_requests_total", code="OK") == 0
    with sigmax.Client(broken.grpc, timeout=60) as client:
        client.classify("layers", ROW)  # a client of one server uses what there is
    assert broken.metric("sigmax_requests_total", code="OK") == 1
