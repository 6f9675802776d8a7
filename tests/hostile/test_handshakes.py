"""Connections that never get as far as a call."""

from contextlib import ExitStack

import pytest
from hyperframe.frame import SettingsFrame
from support.attack import Target, attacked, scaled
from support.raw import PREFACE, Raw

pytestmark = pytest.mark.slow
MENDING = pytest.mark.xfail(strict=True, reason="known, and not mended yet")

BEGUN = PREFACE + SettingsFrame(0).serialize()
BEGINNINGS = {
    "nothing": b"",
    "half a preface": PREFACE[:12],
    "the preface alone": PREFACE,
    "the preface and settings": BEGUN,
    "an unfinished frame": BEGUN + b"\0\x40\0\1\4\0\0\0\1",
}


@MENDING
@pytest.mark.parametrize("begin", BEGINNINGS)
def test_who_says_nothing_keeps_nobody_out(target: Target, begin: str) -> None:
    """The good client gets in again and again, though these came first and fill every place."""
    server = target("--max-connections=64")
    with attacked(server) as good, ExitStack() as clients:
        for _ in range(scaled(200)):
            clients.enter_context(Raw(server.grpc, BEGINNINGS[begin]))
        for _ in range(3):
            good.goes_on()
    assert len(server.log().splitlines()) < 20, "each refused connection is told of"


def test_other_protocols_are_sent_away(target: Target) -> None:
    server = target()
    with attacked(server) as good:
        for begin in [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 100, bytes(1000)]:
            for _ in range(scaled(50)):
                with Raw(server.grpc, begin) as raw:
                    assert raw.until_closed()
        good.goes_on()
