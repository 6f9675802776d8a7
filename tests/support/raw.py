"""HTTP/2 connections that send whatever they are told to: right, wrong, or in the middle of it."""

import itertools
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from hpack import Decoder, Encoder
from hpack.struct import Header
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
CLASSIFY = "/sigmax.v1.ClassifierService/Classify"
WATCH = "/grpc.health.v1.Health/Watch"
PATIENCE = 60.0
"""Seconds that anything may take: more than it can need."""


def framed(message: bytes, flag: int = 0) -> bytes:
    """A message as gRPC frames it; flag 1 says that it is compressed."""
    return struct.pack(">BI", flag, len(message)) + message


def block(path: str, *more: tuple[str, str], authority: str = "x") -> bytes:
    """The headers of a call, packed without the dynamic table: the same bytes every time.

    Texts are as they are, as gRPC's C core sends them.
    """
    packer = Encoder()
    packer.header_table_size = 0
    head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority)]
    rest = [("te", "trailers"), ("content-type", "application/grpc"), *more]
    # The encoder begins with the new size of its table, which only a first block may.
    return packer.encode(head + rest, huffman=False)


def headers(stream: int, packed: bytes, *flags: str) -> HeadersFrame:
    """A HEADERS frame, which ends the headers unless flags are given."""
    return HeadersFrame(stream, packed, flags=list(flags) or ["END_HEADERS"])


def data(stream: int, content: bytes, *, end: bool = True, size: int = 16_384) -> list[Frame]:
    """DATA frames of this content."""
    frames: list[Frame] = [
        DataFrame(stream, content[at : at + size]) for at in range(0, max(len(content), 1), size)
    ]
    if end:
        frames[-1].flags.add("END_STREAM")
    return frames


def call(stream: int, path: str, message: bytes, *more: tuple[str, str]) -> list[Frame]:
    """A whole unary call."""
    return [headers(stream, block(path, *more)), *data(stream, framed(message))]


def reset(stream: int, code: int = 8) -> RstStreamFrame:
    """A RST_STREAM frame; 8 is CANCEL."""
    return RstStreamFrame(stream, code)


def frame(kind: type[Frame], flags: int, stream: int, content: bytes = b"") -> bytes:
    """A frame's bytes, much faster than hyperframe packs them."""
    size = len(content)
    return struct.pack(">HBBBI", size >> 8, size & 255, kind.type, flags, stream) + content


def packed(frames: list[Frame]) -> bytes:
    """Frames as they are on the wire."""
    return b"".join(frame.serialize() for frame in frames)


@dataclass
class Answer:
    """What has come for one stream."""

    headers: dict[str, str]
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> str | None:
        """Its grpc-status."""
        return self.headers.get("grpc-status")

    @property
    def message(self) -> bytes:
        """The message in its body, without gRPC's prefix."""
        return self.body[5:]


class Raw:
    """One connection of the wildest client.

    Args:
        address: The server's host and port.
        begin: What it sends first: by default the preface and settings.
        window: What each stream of the server may send.

    Attributes:
        answers: What came, by stream.
        goaway: The error code of the server's GOAWAY.
        closed: Whether the server has closed the connection.
    """

    def __init__(self, address: str, begin: bytes | None = None, window: int = 65_535) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.closed = False
        self._numbers: Iterator[int] = itertools.count(1, 2)
        self._decoder = Decoder(max_header_list_size=2**24)
        self._unread = b""
        self._pongs = 0
        self._initial_credit = 65_535
        self._credit: dict[int, int] = {0: 65_535}
        settings = SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: window})
        self.send(PREFACE + settings.serialize() if begin is None else begin)

    def next(self) -> int:
        """The number of a new stream."""
        return next(self._numbers)

    def ask(self, path: str, message: bytes, *more: tuple[str, str]) -> int:
        """Begin and end a call; the number of its stream."""
        stream = self.next()
        self.send(*call(stream, path, message, *more))
        return stream

    def send(self, *frames: Frame | bytes) -> bool:
        """Send these; whether the connection is still open."""
        parts = [frame if isinstance(frame, bytes) else frame.serialize() for frame in frames]
        return self.pour(b"".join(parts)) == 1

    def pour(
        self, content: bytes, times: int = 1, seconds: float = PATIENCE, *, reads: bool = True
    ) -> float:
        """Send the same bytes again and again, and read meanwhile or never.

        Returns:
            How often they were sent when all was done, the time over or the connection closed.
        """
        if not content:
            return times
        until = time.monotonic() + seconds
        left = memoryview(content * max(1, min(times, 65_536 // max(1, len(content)))))
        whole, total, sent = left, len(content) * times, 0
        with selectors.DefaultSelector() as ready:
            wanted = selectors.EVENT_WRITE | (selectors.EVENT_READ if reads else 0)
            ready.register(self.socket, wanted)
            while sent < total and not self.closed and (rest := until - time.monotonic()) > 0:
                for _, events in ready.select(rest):
                    if events & selectors.EVENT_READ:
                        self._receive()
                    if events & selectors.EVENT_WRITE and not self.closed:
                        count = self._write(left[: total - sent])
                        sent, left = sent + count, left[count:] or whole
        return sent / len(content)

    def _write(self, content: memoryview) -> int:
        try:
            return self.socket.send(content, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            self.closed = True
            return 0

    def _receive(self) -> None:
        try:
            came = self.socket.recv(1 << 18)
        except OSError:
            came = b""
        if not came:
            self.closed = True
            return
        self._unread += came
        at = 0
        while len(self._unread) >= at + 9:
            frame, length = Frame.parse_frame_header(memoryview(self._unread)[at : at + 9])
            if len(self._unread) < at + 9 + length:
                break
            frame.parse_body(memoryview(self._unread)[at + 9 : at + 9 + length])
            at += 9 + length
            self._note(frame)
        self._unread = self._unread[at:]

    def _note(self, frame: Frame) -> None:
        if isinstance(frame, PingFrame):
            self._pongs += "ACK" in frame.flags
        elif isinstance(frame, GoAwayFrame):
            self.goaway = frame.error_code
        elif isinstance(frame, WindowUpdateFrame):
            self._credit[frame.stream_id] = self.credit(frame.stream_id) + frame.window_increment
        elif isinstance(frame, SettingsFrame):
            size = SettingsFrame.INITIAL_WINDOW_SIZE
            self._initial_credit = frame.settings.get(size, self._initial_credit)
        if not isinstance(frame, HeadersFrame | DataFrame | RstStreamFrame):
            return
        answer = self.answers.setdefault(frame.stream_id, Answer({}))
        if isinstance(frame, HeadersFrame):
            fields: list[Header] = list(self._decoder.decode(frame.data))
            answer.headers |= {str(name): str(value) for name, value in fields}
        elif isinstance(frame, DataFrame):
            answer.body += frame.data
        elif isinstance(frame, RstStreamFrame):
            answer.reset, answer.ended = frame.error_code, True
        answer.ended |= "END_STREAM" in frame.flags

    def credit(self, stream: int) -> int:
        """The bytes that the server takes on a stream, of those sent by `upload`."""
        return self._credit.get(stream, self._initial_credit)

    def upload(self, stream: int, content: bytes, times: int, seconds: float = PATIENCE) -> int:
        """Send a message again and again on an open stream, as fast as the server takes them.

        Returns:
            How many were sent when the time was over.
        """
        frames = packed(data(stream, content, end=False))
        until = time.monotonic() + seconds
        for sent in range(times):
            while min(self.credit(0), self.credit(stream)) < len(content):
                if self.closed or not self.read(max(0.0, until - time.monotonic())):
                    return sent
            self.send(frames)
            for place in (0, stream):
                self._credit[place] = self.credit(place) - len(content)
        return times

    def read(self, seconds: float = PATIENCE) -> bool:
        """Wait for something to come; whether something did."""
        with selectors.DefaultSelector() as ready:
            ready.register(self.socket, selectors.EVENT_READ)
            came = bool(not self.closed and ready.select(seconds))
        if came:
            self._receive()
        return came

    def answer(self, stream: int) -> Answer:
        """Wait for a call's answer, as far as it comes."""
        while not (answer := self.answers.setdefault(stream, Answer({}))).ended:
            if self.closed:
                break
            assert self.read(), f"stream {stream} has no answer after {PATIENCE:.0f} s: {answer}"
        return answer

    def ping(self, seconds: float = PATIENCE) -> bool:
        """Wait until the server has read all that was sent; whether it answers at all."""
        wanted = self._pongs + 1
        self.send(PingFrame(0, b"hostile!"))
        while self._pongs < wanted and not self.closed and self.read(seconds):
            pass
        return self._pongs >= wanted

    def open_window(self, stream: int, bytes_more: int) -> None:
        """Let the server send so much more on a stream; 0 is the connection."""
        self.send(WindowUpdateFrame(stream, bytes_more))

    def until_closed(self, seconds: float = PATIENCE) -> bool:
        """Wait for the server to close the connection; whether it did in time."""
        until = time.monotonic() + seconds
        while not self.closed and time.monotonic() < until:
            self.read(max(0.0, until - time.monotonic()))
        return self.closed

    def close(self) -> None:
        """Go without a word."""
        self.socket.close()
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
