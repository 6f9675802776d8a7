"""Messages that are small on the wire and large when decompressed or decoded."""

import gzip
import zlib
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from hyperframe.frame import SettingsFrame
from support.attack import MODEL, Target, attacked, scaled
from support.raw import CLASSIFY, INFER, STREAM_INFER, Answer, Raw, block, data, framed, headers

pytestmark = pytest.mark.slow

CLASSIFY_STREAM = "/sigmax.v1.ClassifierService/ClassifyStream"
LOG_SETTINGS = "/inference.GRPCInferenceService/LogSettings"
LOAD = "/inference.GRPCInferenceService/RepositoryModelLoad"
UNLOAD = "/inference.GRPCInferenceService/RepositoryModelUnload"
READY = "/inference.GRPCInferenceService/ModelReady"

EXHAUSTED = "8"
PARTS = 16_384
MEBIBYTE = 2**20


def varint(number: int) -> bytes:
    low, high = number & 127, number >> 7
    return bytes([low | 128]) + varint(high) if high else bytes([low])


def field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def entries(number: int, count: int) -> bytes:
    """Encode `count` entries of the map with this field number, each with a key of its own."""
    return b"".join(field(number, field(1, b"%07d" % at)) for at in range(count))


def contents(number: int, content: bytes) -> bytes:
    """Encode a ModelInferRequest with these typed contents in its only input."""
    tensor = field(1, b"x") + field(2, b"FP32") + field(5, field(number, content))
    return field(1, MODEL.encode()) + field(5, tensor)


def settle(raw: Raw) -> None:
    """Acknowledge the server's settings, after which its windows for uploads hold."""
    raw.ping()
    raw.send(SettingsFrame(0, flags=["ACK"]))


def upload(raw: Raw, path: str, message: bytes, encoding: str = "identity") -> int:
    """Send a whole call as fast as the server takes it; return the number of its stream."""
    packers: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
    packer = packers.get(encoding)
    content = framed(packer(message), 1) if packer else framed(message)
    settle(raw)
    stream = raw.next()
    raw.send(headers(stream, block(path, ("grpc-encoding", encoding))))
    size = 60_000  # bytes, less than the smallest window of the server
    for at in range(0, len(content), size):
        if raw.upload(stream, content[at : at + size], 1) == 0:
            break
        if raw.answers.get(stream, Answer({})).ended:
            return stream
    raw.send(*data(stream, b""))
    return stream


# The repeated field of each call, as an empty part that takes two bytes on the wire.
EMPTY = {
    CLASSIFY: b"\x1a\x00",
    INFER: b"\x2a\x00",
    STREAM_INFER: b"\x2a\x00",
    LOG_SETTINGS: b"\x0a\x00",
    LOAD: b"\x1a\x00",
    UNLOAD: b"\x1a\x00",
}


@pytest.mark.parametrize("path", EMPTY, ids=lambda path: path.rpartition("/")[2])
def test_millions_of_empty_parts(target: Target, path: str) -> None:
    """Send 10,000,000 empty parts, 20 MB, in 19 kB of gzip."""
    server = target("--model-control=explicit", "--load-model=*")
    with attacked(server, growth=128 * MEBIBYTE) as good, Raw(server.grpc) as raw:
        answer = raw.answer(upload(raw, path, EMPTY[path] * 10_000_000, "gzip"))
        assert answer.status == EXHAUSTED
        assert "got%2010000000" in answer.headers["grpc-message"].replace(" ", "%20")
        good.goes_on()


def test_millions_of_empty_parts_within_a_message(target: Target) -> None:
    """Send the same by ClassifyStream, where the inputs are in an embedded request."""
    server = target()
    with attacked(server, growth=128 * MEBIBYTE) as good, Raw(server.grpc) as raw:
        message = field(2, EMPTY[CLASSIFY] * 10_000_000)
        answer = raw.answer(upload(raw, CLASSIFY_STREAM, message, "gzip"))
        assert answer.status == EXHAUSTED
        good.goes_on()


@pytest.mark.parametrize("path", [CLASSIFY, INFER])
def test_a_message_of_the_greatest_size_that_is_all_parts(target: Target, path: str) -> None:
    server = target()
    with attacked(server, growth=192 * MEBIBYTE) as good, Raw(server.grpc) as raw:
        answer = raw.answer(upload(raw, path, EMPTY[path] * 30_000_000))
        assert answer.status == EXHAUSTED
        good.goes_on()


@pytest.mark.parametrize(("path", "number"), [(INFER, 4), (LOG_SETTINGS, 1), (LOAD, 3)])
def test_maps_of_many_entries(target: Target, path: str, number: int) -> None:
    server = target("--model-control=explicit", "--load-model=*")
    with attacked(server, growth=128 * MEBIBYTE) as good, Raw(server.grpc) as raw:
        answer = raw.answer(upload(raw, path, entries(number, scaled(200_000)), "gzip"))
        assert answer.status == EXHAUSTED
        good.goes_on()


@pytest.mark.parametrize(
    ("number", "content"),
    [
        (3, b"\x01" * 60_000_000),  # numbers of one byte that become eight bytes
        (8, b""),  # no content: the test repeats the field, for strings of no bytes
    ],
    ids=["numbers", "strings"],
)
def test_elements_that_grow(target: Target, number: int, content: bytes) -> None:
    """Send elements that take hundreds of MiB decoded, where a connection may hold 96 MiB."""
    server = target(f"--memory-budget={192 * MEBIBYTE}")
    message = contents(number, content)
    if not content:
        tensor = field(1, b"x") + field(5, field(number, b"") * 30_000_000)
        message = field(1, MODEL.encode()) + field(5, tensor)
    with attacked(server, may_be_refused=True, growth=192 * MEBIBYTE) as good:
        with Raw(server.grpc) as raw:
            answer = raw.answer(upload(raw, INFER, message))
            assert answer.status == EXHAUSTED
            assert "bytes" in answer.headers["grpc-message"]
        good.goes_on()


@pytest.mark.parametrize("path", [CLASSIFY, INFER, STREAM_INFER, READY])
def test_many_large_messages_to_unpack_at_once(target: Target, path: str) -> None:
    """Send 40 of 60 MB in 60 kB each, where three have room."""
    server = target(f"--memory-budget={192 * MEBIBYTE}")
    zeros = field(1, MODEL.encode()) + field(15, bytes(60_000_000))
    packed = framed(gzip.compress(zeros, 1), 1)
    with (
        attacked(server, may_be_refused=True, growth=512 * MEBIBYTE) as good,
        ExitStack() as clients,
    ):
        calls = []
        for _ in range(40):
            raw = clients.enter_context(Raw(server.grpc))
            settle(raw)
            stream = raw.next()
            raw.send(headers(stream, block(path, ("grpc-encoding", "gzip"))))
            raw.upload(stream, packed[: len(packed) // 2], 1)
            raw.upload(stream, packed[len(packed) // 2 :], 1)
            calls.append((raw, stream))
        for raw, stream in calls:
            raw.send(*data(stream, b""))
        good.goes_on()
        for raw, stream in calls:
            assert raw.answer(stream).ended


def test_bombs(target: Target) -> None:
    """Send 20 members of gzip one after the other, 1.25 GiB in less than 2 MiB."""
    server = target()
    zeros = gzip.compress(bytes(64 * MEBIBYTE))
    members = framed(zeros * 20, 1)
    for packed in (gzip.compress(bytes(1024 * MEBIBYTE)), zeros * 20, zlib.compress(bytes(2**28))):
        assert len(packed) < 2 * MEBIBYTE
    with attacked(server, growth=192 * MEBIBYTE) as good, Raw(server.grpc) as raw:
        settle(raw)
        for path in (INFER, STREAM_INFER, READY):
            stream = raw.next()
            raw.send(headers(stream, block(path, ("grpc-encoding", "gzip"))))
            for at in range(0, len(members), 60_000):
                raw.upload(stream, members[at : at + 60_000], 1)
            raw.send(*data(stream, b""))
            assert raw.answer(stream).status == EXHAUSTED
        good.goes_on()


def test_streams_that_stay_open_after_a_large_message(target: Target) -> None:
    """Send a message of 60 MB on each of 20 streams, one after the other, and end no stream."""
    server = target(f"--memory-budget={192 * MEBIBYTE}")
    zeros = field(1, MODEL.encode()) + field(15, bytes(60_000_000))
    packed = framed(gzip.compress(zeros, 1), 1)
    with (
        attacked(server, growth=192 * MEBIBYTE) as good,
        ExitStack() as clients,
    ):
        for _ in range(20):
            raw = clients.enter_context(Raw(server.grpc))
            settle(raw)
            stream = raw.next()
            raw.send(headers(stream, block(STREAM_INFER, ("grpc-encoding", "gzip"))))
            raw.upload(stream, packed, 1)
            while not (answer := raw.answers.get(stream, Answer({}))).body and not answer.ended:
                assert raw.read()
            # The one request is an error, and the stream goes on.
            assert not answer.ended
        good.goes_on()
