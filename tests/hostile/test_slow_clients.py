"""Clients that send or read very slowly."""

from contextlib import ExitStack

import pytest
from support.attack import EITHER, MODEL, Target, attacked, scaled
from support.raw import (
    CLASSIFY,
    INFER,
    STREAM_INFER,
    WATCH,
    Raw,
    block,
    call,
    data,
    framed,
    headers,
    packed,
)
from support.wire import Tensor, infer_request

pytestmark = [pytest.mark.slow, EITHER]

LARGE = infer_request(MODEL, Tensor.of("x", [[0.0] * 5] * 1000)).SerializeToString()
WRONG = infer_request("no such model", id="i" * 10_000).SerializeToString()
BUDGET = 32 * 2**20


def test_zero_windows_with_many_answers_waiting(target: Target) -> None:
    """The waiting answers are limited by the budget, and the client is cut off at last."""
    server = target(f"--memory-budget={BUDGET}", "--stall-seconds=2")
    with attacked(server, may_be_refused=True) as good, ExitStack() as clients:
        for _ in range(scaled(5)):
            raw = clients.enter_context(Raw(server.grpc, window=0))
            streams = [raw.next() for _ in range(1000)]
            raw.pour(packed([f for s in streams for f in call(s, INFER, LARGE)]), reads=False)
        assert server.metric("sigmax_message_bytes") <= BUDGET
        good.goes_on()


def test_answers_of_a_stream_that_are_never_read(target: Target) -> None:
    """Provoke errors with an id of 10 kB that are never read; all of them count in the budget."""
    server = target(f"--memory-budget={BUDGET}", "--stall-seconds=2")
    with attacked(server, may_be_refused=True) as good, Raw(server.grpc, window=0) as raw:
        for _ in range(scaled(4)):
            stream = raw.next()
            raw.send(headers(stream, block(STREAM_INFER)))
            raw.upload(stream, framed(WRONG), 2_000, seconds=2)
        good.goes_on()


def test_windows_full_of_what_is_not_read(target: Target) -> None:
    """The server stops reading a stream whose answers wait, and holds at most its windows."""
    server = target(f"--memory-budget={BUDGET}", "--stall-seconds=2")
    with (
        attacked(server, may_be_refused=True, growth=3 * BUDGET) as good,
        ExitStack() as clients,
    ):
        for _ in range(scaled(20)):
            raw = clients.enter_context(Raw(server.grpc, window=0))
            for stream in [raw.next() for _ in range(8)]:
                raw.send(headers(stream, block(STREAM_INFER)))
                raw.upload(stream, framed(WRONG), 200, seconds=0.5)
        good.goes_on()


def test_watches_without_number(target: Target) -> None:
    """Open thousands of watches, each of which may last for ever."""
    server = target()
    with attacked(server) as good, ExitStack() as clients:
        for _ in range(scaled(10)):
            raw = clients.enter_context(Raw(server.grpc))
            streams = [raw.next() for _ in range(1000)]
            raw.send(packed([f for s in streams for f in call(s, WATCH, b"")]))
            raw.ping()
        good.goes_on()


def test_bodies_that_come_a_byte_at_a_time(target: Target) -> None:
    """Good clients do not wait for slow senders, and slow senders are cut off."""
    server = target("--stall-seconds=2")
    with attacked(server) as good, ExitStack() as clients:
        raws = [clients.enter_context(Raw(server.grpc)) for _ in range(scaled(50))]
        for raw in raws:
            raw.send(headers(1, block(INFER)))
        for byte in framed(LARGE)[:20]:
            for raw in raws:
                raw.send(*data(1, bytes([byte]), end=False))
        good.goes_on()
        assert all(raw.until_closed() for raw in raws)


def test_answers_that_are_read_a_byte_at_a_time(target: Target) -> None:
    server = target()
    with attacked(server) as good, ExitStack() as clients:
        raws = [clients.enter_context(Raw(server.grpc, window=1)) for _ in range(scaled(50))]
        streams = [raw.ask(INFER, LARGE) for raw in raws]
        for _ in range(20):
            for raw, stream in zip(raws, streams, strict=True):
                raw.open_window(stream, 1)
        good.goes_on()


def test_clients_that_stand_still_do_not_hold_up_the_end(target: Target) -> None:
    """Requests that are half sent at SIGTERM do not delay the end, and do not count as lost."""
    server = target("--stall-seconds=2")
    with attacked(server) as good, ExitStack() as clients:
        for path in (INFER, CLASSIFY, STREAM_INFER):
            for _ in range(10):
                raw = clients.enter_context(Raw(server.grpc))
                raw.send(headers(1, block(path)), *data(1, framed(LARGE)[:50], end=False))
                assert raw.ping()
        good.stop()
        assert server.stop() == 0
        assert "--grace-seconds" not in server.log()
