"""Header lists of every size and kind."""

import pytest
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame
from support.attack import EITHER, MODEL, Target, attacked, scaled
from support.raw import INFER, Raw, block, call, data, framed, headers
from support.wire import Tensor, infer_request

pytestmark = [pytest.mark.slow, EITHER]

ASKED = infer_request(MODEL, Tensor.of("x", [[0.0] * 5])).SerializeToString()
FRAME = 16_384
AUTHORITIES = [
    "a%2Cb",
    "127.0.0.1:1,127.0.0.1:2",
    "%2Ftmp%2Fs",
    "/tmp/s",
    "::1",
    "[::1]:1",
    "ä",
    "a b",
    "@",
]


def cut(stream: int, packed: bytes, size: int = FRAME) -> list[Frame]:
    """Cut a header block into frames of this size in bytes."""
    first, *rest = [packed[at : at + size] for at in range(0, len(packed), size)]
    frames: list[Frame] = [HeadersFrame(stream, first)]
    frames += [ContinuationFrame(stream, part) for part in rest]
    frames[-1].flags.add("END_HEADERS")
    return frames


def with_metadata(stream: int, size: int) -> list[Frame]:
    """Make a whole call with a token of `size` bytes, in at most six frames of headers."""
    frames = cut(stream, block(INFER, ("token", "t" * size)), max(FRAME, size // 5))
    return [*frames, *data(stream, framed(ASKED))]


def test_metadata_as_large_as_tokens_are_is_taken(target: Target) -> None:
    server = target()
    with attacked(server), Raw(server.grpc) as raw:
        for size in (100, 16_500, 60_000):
            stream = raw.next()
            raw.send(*with_metadata(stream, size))
            assert raw.answer(stream).status == "0", f"with {size} bytes"


def test_metadata_over_the_limit_is_refused_for_that_call_alone(target: Target) -> None:
    server = target()
    with attacked(server):
        for size in (70_000, 80_000, 200_000):
            with Raw(server.grpc) as raw:
                # The refused call has neighbours: one that began before, one that comes after.
                first, refused, last = raw.next(), raw.next(), raw.next()
                begin, *rest = call(first, INFER, ASKED)
                raw.send(begin, *with_metadata(refused, size), *rest, *call(last, INFER, ASKED))
                answer = raw.answer(refused)
                assert answer.status == "8", answer
                assert "65536" in answer.headers["grpc-message"]
                assert [raw.answer(stream).status for stream in (first, last)] == ["0", "0"]
                assert raw.goaway is None


def test_any_authority_is_accepted(target: Target) -> None:
    server = target()
    with attacked(server), Raw(server.grpc) as raw:
        for authority in AUTHORITIES:
            stream = raw.next()
            head = headers(stream, block(INFER, authority=authority))
            raw.send(head, *data(stream, framed(ASKED)))
            assert raw.answer(stream).status == "0", f"authority {authority!r}"


@pytest.mark.parametrize("piece", [b"", b"\x00\x01a\x01b" * 2000], ids=["empty", "full"])
def test_continuation_flood(target: Target, piece: bytes) -> None:
    """Send CONTINUATION frames without an end."""
    server = target()
    with attacked(server) as good:
        for _ in range(scaled(2)):
            with Raw(server.grpc) as raw:
                stream = raw.next()
                raw.send(headers(stream, block(INFER), "END_STREAM"))
                more = ContinuationFrame(stream, piece).serialize()
                raw.pour(more, 25_000_000 // len(more), seconds=2)
                good.goes_on()


def test_hpack_bomb(target: Target) -> None:
    """Send blocks that name one large field of the table thousands of times."""
    server = target()
    with attacked(server) as good:
        for _ in range(scaled(5)):
            with Raw(server.grpc) as raw:
                packer = Encoder()
                first, second = raw.next(), raw.next()
                raw.send(headers(first, packer.encode([("x", "y" * 3900)])))
                again = packer.encode([("x", "y" * 3900)])
                raw.send(*cut(second, block(INFER) + again * 16_000))
                raw.ping(5)
        good.goes_on()


def test_large_header_lists_in_small_blocks(target: Target) -> None:
    """Send blocks of 17 kB with a byte for each `accept-encoding`: a mebibyte as HTTP/2 counts."""
    server = target()
    small = block(INFER) + b"\x90" * 17_000
    with attacked(server) as good:
        for _ in range(scaled(2)):
            with Raw(server.grpc) as raw:
                streams = [raw.next() for _ in range(500)]
                for stream in streams:
                    if not raw.send(*cut(stream, small)):
                        break
                raw.ping()
        good.goes_on()


def test_blocks_that_cannot_be_unpacked(target: Target) -> None:
    server = target()
    with attacked(server) as good:
        for number in range(scaled(200)):
            with Raw(server.grpc) as raw:
                rubbish = bytes((number * 37 + at * 101) % 256 for at in range(200))
                raw.send(headers(raw.next(), rubbish))
                raw.ping()
        good.goes_on()
