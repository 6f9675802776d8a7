"""Connections that never begin a call."""

import socket
import struct
from contextlib import ExitStack

import pytest
from hyperframe.frame import SettingsFrame
from support.attack import EITHER, Target, attacked, scaled
from support.raw import INFER, PREFACE, STREAM_INFER, WATCH, Raw, block, data, framed, headers

pytestmark = [pytest.mark.slow, EITHER]

BEGUN = PREFACE + SettingsFrame(0).serialize()
BEGINNINGS = {
    "nothing": b"",
    "half a preface": PREFACE[:12],
    "the preface alone": PREFACE,
    "the preface and settings": BEGUN,
    "an unfinished frame": BEGUN + b"\0\x40\0\1\4\0\0\0\1",
}


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_who_says_nothing_keeps_nobody_out(target: Target, begin: str) -> None:
    """Good clients can connect, although silent connections came first and take every place.

    A good client may have to try again while more silent connections come than there are places.
    """
    server = target("--max-connections=64")
    with attacked(server, may_be_refused=True) as good, ExitStack() as clients:
        for _ in range(scaled(200)):
            clients.enter_context(Raw(server.grpc, BEGINNINGS[begin]))
        for _ in range(3):
            good.goes_on()
    assert len(server.log().splitlines()) < 20, "each refused connection is told of"


def test_who_says_nothing_is_sent_away(target: Target) -> None:
    server = target("--handshake-seconds=0.5")
    with attacked(server) as good, ExitStack() as clients:
        raws = [
            clients.enter_context(Raw(server.grpc, begin))
            for begin in (b"", PREFACE[:12], PREFACE)
            for _ in range(scaled(10))
        ]
        assert all(raw.until_closed() for raw in raws)
        good.goes_on()


@pytest.mark.parametrize("path", [INFER, STREAM_INFER, WATCH])
def test_a_call_on_every_connection_keeps_nobody_out(target: Target, path: str) -> None:
    """Each connection has a call that begins and never goes on, so that none is idle."""
    server = target("--max-connections=64", "--stall-seconds=1")
    with attacked(server, may_be_refused=True) as good, ExitStack() as clients:
        for _ in range(scaled(200)):
            raw = clients.enter_context(Raw(server.grpc))
            raw.send(headers(1, block(path)), *(data(1, framed(b"")) if path == WATCH else []))
        for _ in range(3):
            good.goes_on()


def test_connections_that_come_and_go(target: Target) -> None:
    """An idle good client may have to make room, while the server is slow to see that others go."""
    server = target("--max-connections=64")
    with attacked(server, may_be_refused=True) as good:
        for number in range(scaled(500)):
            raw = Raw(server.grpc, BEGUN if number % 2 else b"")
            if number % 3:  # without lingering, the kernel resets the connection
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        good.goes_on()


def test_other_protocols_are_sent_away(target: Target) -> None:
    server = target()
    with attacked(server) as good:
        for begin in [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 100, bytes(1000)]:
            for _ in range(scaled(50)):
                with Raw(server.grpc, begin) as raw:
                    assert raw.until_closed()
        good.goes_on()
