"""Floods of frames that cost the client little."""

import pytest
from hyperframe.frame import (
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from support.attack import EITHER, MODEL, Target, attacked, scaled
from support.raw import INFER, STREAM_INFER, Raw, block, call, data, framed, headers, packed, reset
from support.wire import Tensor, infer_request

pytestmark = [pytest.mark.slow, EITHER]

ASKED = infer_request(MODEL, Tensor.of("x", [[0.0] * 5])).SerializeToString()
STREAMS = 1024
REFUSED = 7  # HTTP/2's error code REFUSED_STREAM

FLOODS: dict[str, Frame] = {
    "PING": PingFrame(0, b"hostile!"),
    "SETTINGS": SettingsFrame(0, {SettingsFrame.HEADER_TABLE_SIZE: 4096}),
    "large SETTINGS": SettingsFrame(0, dict.fromkeys(range(10, 2000), 5)),
    "WINDOW_UPDATE": WindowUpdateFrame(0, 1),
    "PRIORITY": PriorityFrame(1001, depends_on=3),
    "GOAWAY": GoAwayFrame(0, 2**31 - 1, additional_data=b"x" * 1000),
    "unknown frames": ExtensionFrame(0xBA, 0, 0, b"x" * 1000),
    "empty DATA": DataFrame(1),
    "padded DATA": DataFrame(1, pad_length=255, flags=["PADDED"]),
    "empty messages": DataFrame(1, b"\0\0\0\0\0"),
    "trailers": HeadersFrame(1, b"\x00\x01a\x01b", flags=["END_HEADERS"]),
}


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "never reads"])
@pytest.mark.parametrize("kind", FLOODS)
def test_flood_of(target: Target, kind: str, reads: bool) -> None:
    """Flood a connection with an open stream; the other clients must not notice."""
    server = target()
    frame = FLOODS[kind].serialize()
    count = min(scaled(50_000), scaled(20_000_000) // len(frame))
    with attacked(server) as good, Raw(server.grpc) as raw:
        raw.send(headers(raw.next(), block(STREAM_INFER)))
        assert raw.pour(frame, count, seconds=scaled(2), reads=reads) > 0
        good.goes_on()


def test_streams_over_the_limit(target: Target) -> None:
    """Streams over the limit are refused, and the others are answered."""
    server = target()
    head = block(INFER)
    with attacked(server) as good:
        for _ in range(scaled(1)):
            with Raw(server.grpc) as raw:
                for _ in range(2):  # a client is cut off after 1024 refused streams
                    streams = [raw.next() for _ in range(STREAMS + 300)]
                    raw.send(packed([headers(stream, head) for stream in streams]))
                    assert raw.ping()
                    refused = {stream for stream in streams if stream in raw.answers}
                    assert len(refused) == 300
                    assert {raw.answer(stream).reset for stream in refused} == {REFUSED}
                    good.goes_on()
                    raw.send(*data(streams[0], framed(ASKED)))
                    assert raw.answer(streams[0]).status == "0"
                    others = [stream for stream in streams[1:] if stream not in refused]
                    raw.send(packed([reset(stream) for stream in others]))
                    assert raw.ping()


def test_streams_far_over_the_limit(target: Target) -> None:
    """A client that goes on far over the limit is cut off."""
    server = target()
    with attacked(server) as good:
        for _ in range(scaled(2)):
            with Raw(server.grpc) as raw:
                streams = [raw.next() for _ in range(20_000)]
                raw.send(packed([headers(stream, block(INFER)) for stream in streams]))
                raw.ping()
                good.goes_on()


@pytest.mark.parametrize("size", [1, 7])
def test_requests_in_tiny_frames(target: Target, size: int) -> None:
    """Requests in frames of a few bytes are answered."""
    server = target()
    with attacked(server) as good, Raw(server.grpc) as raw:
        for _ in range(scaled(20)):
            stream = raw.next()
            raw.send(headers(stream, block(INFER)), *data(stream, framed(ASKED), size=size))
            assert raw.answer(stream).status == "0"
        good.goes_on()


def test_calls_after_a_goaway_of_the_client(target: Target) -> None:
    server = target()
    with attacked(server) as good:
        for _ in range(scaled(20)):
            with Raw(server.grpc) as raw:
                raw.send(GoAwayFrame(0, 0))
                for _ in range(20):
                    raw.send(*call(raw.next(), INFER, ASKED))
                raw.ping(5)
        good.goes_on()
