"""HTTP/2 connections that send any frames, right or wrong, complete or cut off."""

import itertools
import selectors
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator
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

from support.server import Address

WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
RECORD = 2**14  # most bytes of a record of TLS
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
CLASSIFY = "/sigmax.v1.ClassifierService/Classify"
WATCH = "/grpc.health.v1.Health/Watch"
PATIENCE = 60.0
"""Most seconds that anything may take, far more than it needs."""


def framed(message: bytes, flag: int = 0) -> bytes:
    """Return a message with gRPC's prefix; flag 1 says that the message is compressed."""
    return struct.pack(">BI", flag, len(message)) + message


def block(path: str, *more: tuple[str, str], authority: str = "x") -> bytes:
    """Return the header block of a call, without the dynamic table: the same bytes every time.

    Texts are not Huffman-coded, as from gRPC's C core.
    """
    packer = Encoder()
    packer.header_table_size = 0
    head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority)]
    rest = [("te", "trailers"), ("content-type", "application/grpc"), *more]
    # The encoder's output begins with the new size of its table, which only a first block may do.
    return packer.encode(head + rest, huffman=False)


def headers(stream: int, packed: bytes, *flags: str) -> HeadersFrame:
    """Make a HEADERS frame, which ends the headers unless flags are given."""
    return HeadersFrame(stream, packed, flags=list(flags) or ["END_HEADERS"])


def data(stream: int, content: bytes, *, end: bool = True, size: int = 16_384) -> list[Frame]:
    """Cut content into DATA frames of at most `size` bytes; the last one may end the stream."""
    frames: list[Frame] = [
        DataFrame(stream, content[at : at + size]) for at in range(0, max(len(content), 1), size)
    ]
    if end:
        frames[-1].flags.add("END_STREAM")
    return frames


def call(stream: int, path: str, message: bytes, *more: tuple[str, str]) -> list[Frame]:
    """Make the frames of a whole unary call."""
    return [headers(stream, block(path, *more)), *data(stream, framed(message))]


def reset(stream: int, code: int = 8) -> RstStreamFrame:
    """Make a RST_STREAM frame; the code 8 is CANCEL."""
    return RstStreamFrame(stream, code)


def frame(kind: type[Frame], flags: int, stream: int, content: bytes = b"") -> bytes:
    """Return the bytes of a frame, packed much faster than by hyperframe."""
    size = len(content)
    return struct.pack(">HBBBI", size >> 8, size & 255, kind.type, flags, stream) + content


def packed(frames: Iterable[Frame]) -> bytes:
    """Return the bytes of frames as they are on the wire."""
    return b"".join(frame.serialize() for frame in frames)


@dataclass
class Answer:
    """The answer on one stream, as far as it has come.

    Attributes:
        headers: Headers and trailers.
        body: Content of the DATA frames.
        ended: Whether the stream has ended.
        reset: Error code of the RST_STREAM frame; None where none came.
    """

    headers: dict[str, str]
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> str | None:
        """The grpc-status; None where none has come."""
        return self.headers.get("grpc-status")

    @property
    def message(self) -> bytes:
        """The message in the body, without gRPC's prefix."""
        return self.body[5:]


class Raw:
    """A connection that sends any frames.

    Args:
        address: Host and port of the server, where an `Address` may be over TLS; or a connection
            that is open already.
        begin: Bytes to send first; None for the preface and settings.
        window: Bytes that the server may send on each stream.

    Attributes:
        answers: Answers so far, by the number of the stream.
        goaway: Error code of the server's GOAWAY; None where none came.
        closed: Whether the connection is closed.
    """

    def __init__(
        self,
        address: str | socket.socket,
        begin: bytes | None = None,
        window: int = 65_535,
    ) -> None:
        if isinstance(address, str):
            address = (address if isinstance(address, Address) else Address(address)).connect()
        self.socket = address
        self.socket.setblocking(False)
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
        """Return the number of a new stream."""
        return next(self._numbers)

    def ask(self, path: str, message: bytes, *more: tuple[str, str]) -> int:
        """Send a whole call, and return the number of its stream."""
        stream = self.next()
        self.send(*call(stream, path, message, *more))
        return stream

    def send(self, *frames: Frame | bytes) -> bool:
        """Send frames or bytes, and return whether all were sent."""
        parts = [frame if isinstance(frame, bytes) else frame.serialize() for frame in frames]
        return self.pour(b"".join(parts)) == 1

    def pour(
        self, content: bytes, times: int = 1, seconds: float = PATIENCE, *, reads: bool = True
    ) -> float:
        """Send the same bytes repeatedly, and read meanwhile, or never.

        Returns:
            The number of times they were sent, which is less than `times` where the time was over
            or the connection closed.
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
            # Of several records of TLS, none counts as sent where the connection closes between.
            return self.socket.send(content[:RECORD])
        except WAIT:
            return 0
        except OSError:
            self.closed = True
            return 0

    def _receive(self) -> None:
        try:
            came = self.socket.recv(1 << 18)
            # A selector does not see what TLS has read already.
            while isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
                came += self.socket.recv(1 << 18)
        except WAIT:
            return
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
        """Return the bytes that the server's window allows on a stream; 0 is the connection.

        Only bytes sent by `upload` are counted.
        """
        return self._credit.get(stream, self._initial_credit)

    def upload(self, stream: int, content: bytes, times: int, seconds: float = PATIENCE) -> int:
        """Send content repeatedly on an open stream, as fast as the server's windows allow.

        Returns:
            The number of times it was sent, which is less than `times` where the time was over.
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
        """Wait at most so many seconds for data, read it, and return whether there was some."""
        with selectors.DefaultSelector() as ready:
            ready.register(self.socket, selectors.EVENT_READ)
            came = bool(not self.closed and ready.select(seconds))
        if came:
            self._receive()
        return came

    def answer(self, stream: int) -> Answer:
        """Wait for the end of an answer or of the connection, and return the answer so far."""
        while not (answer := self.answers.setdefault(stream, Answer({}))).ended:
            if self.closed:
                break
            assert self.read(), f"stream {stream} has no answer after {PATIENCE:.0f} s: {answer}"
        return answer

    def ping(self, seconds: float = PATIENCE) -> bool:
        """Wait for the answer to a PING, so that all before it is read; return whether it came."""
        wanted = self._pongs + 1
        self.send(PingFrame(0, b"hostile!"))
        while self._pongs < wanted and not self.closed and self.read(seconds):
            pass
        return self._pongs >= wanted

    def open_window(self, stream: int, bytes_more: int) -> None:
        """Let the server send so many more bytes on a stream; 0 is the connection."""
        self.send(WindowUpdateFrame(stream, bytes_more))

    def until_closed(self, seconds: float = PATIENCE) -> bool:
        """Wait until the server closes the connection, and return whether it did in time."""
        until = time.monotonic() + seconds
        while not self.closed and time.monotonic() < until:
            self.read(max(0.0, until - time.monotonic()))
        return self.closed

    def close(self) -> None:
        """Close the connection without a GOAWAY."""
        self.socket.close()
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
