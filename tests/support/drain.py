"""Connections that send requests until the server's GOAWAY, and the results."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

from support.certificates import client_context

UNDER_WAY = 32  # requests in flight on each connection, at any time
GOAWAY = 7  # type of the frame (RFC 9113, section 6.8)
EVERY_STREAM = 2**31 - 1  # last stream id of a GOAWAY that only announces another


@dataclass
class Answer:
    """The answer on one stream, as far as it has come; `body` is its size in bytes."""

    status: bytes | None = None
    body: int = 0
    ended: bool = False

    @property
    def good(self) -> bool:
        return self.ended and self.status == b"0" and self.body > 5


@dataclass
class Caller(asyncio.Protocol):
    """A connection that keeps requests in flight until a GOAWAY.

    GOAWAY frames are removed before h2 sees them. For h2 the first one ends the connection,
    although the answers to accepted requests have still to come.
    """

    path: str
    message: bytes
    patient: bool  # whether it goes on after the announcing GOAWAY, until the final one
    enough: int  # number of answers after which the connection is warm
    warm: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    answers: dict[int, Answer] = field(default_factory=dict)
    good: int = 0
    last_stream: int | None = None
    unread: bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        config = h2.config.H2Configuration(header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.under_way = 0
        self.go_on()

    def data_received(self, data: bytes) -> None:
        self.unread += data
        while len(self.unread) >= 9:
            end = 9 + int.from_bytes(self.unread[:3], "big")
            if len(self.unread) < end:
                break
            frame, self.unread = self.unread[:end], self.unread[end:]
            if frame[3] == GOAWAY:
                self.last_stream = int.from_bytes(frame[9:13], "big") & EVERY_STREAM
            else:
                self.note(self.h2.receive_data(frame))
        self.go_on()

    def note(self, events: Iterable[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                answer = self.answers[event.stream_id]
                answer.status = dict(event.headers).get(b"grpc-status", answer.status)
            elif isinstance(event, h2.events.DataReceived):
                self.answers[event.stream_id].body += len(event.data)
                length = event.flow_controlled_length
                self.h2.acknowledge_received_data(length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                answer = self.answers[event.stream_id]
                answer.ended = True
                self.good += answer.good
                self.under_way -= 1
            elif isinstance(event, h2.events.StreamReset):
                self.under_way -= 1
        if self.good >= self.enough:
            self.warm.set()

    def go_on(self) -> None:
        """Send new requests for those that have been answered."""
        told = self.last_stream is not None
        final = told and self.last_stream != EVERY_STREAM
        while self.under_way < UNDER_WAY and not final and (self.patient or not told):
            self.ask()
        self.transport.write(self.h2.data_to_send())

    def ask(self) -> None:
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "http"), (":authority", "sigmax")]
        headers += [(":path", self.path), ("te", "trailers"), ("content-type", "application/grpc")]
        self.h2.send_headers(stream, headers)
        framed = b"\0" + len(self.message).to_bytes(4, "big") + self.message
        self.h2.send_data(stream, framed, end_stream=True)
        self.answers[stream] = Answer()
        self.under_way += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.warm.set()  # waiting for a lost connection would never end
        self.lost.set()

    @property
    def accepted(self) -> dict[int, Answer]:
        assert self.last_stream is not None, "the connection was closed without a GOAWAY"
        return {at: answer for at, answer in self.answers.items() if at <= self.last_stream}


@dataclass
class Load:
    """The result: the connections, the requests in flight at the signal, and the exit code."""

    callers: list[Caller]
    pending: int
    code: int

    @property
    def sent(self) -> int:
        return sum(len(caller.answers) for caller in self.callers)

    @property
    def accepted(self) -> int:
        return sum(len(caller.accepted) for caller in self.callers)

    @property
    def answered(self) -> int:
        return sum(caller.good for caller in self.callers)

    def __str__(self) -> str:
        return (
            f"{self.sent} requests sent on {len(self.callers)} connections, {self.pending} of "
            f"them under way at the signal: {self.accepted} accepted, {self.answered} answered, "
            f"{self.sent - self.accepted} refused by GOAWAY; exit code {self.code}"
        )


async def load(address: str, callers: list[Caller], end: Callable[[], int]) -> Load:
    """Send requests on all connections, tell the server to end, and wait for the end.

    Args:
        address: Host and port of the server.
        callers: Connections.
        end: Function that tells the server to end, waits until it has, and returns its exit code.
    """
    host, port = address.rsplit(":", 1)
    loop = asyncio.get_running_loop()

    authority = getattr(address, "authority", None)
    context = client_context(authority) if authority else None

    async def connect(caller: Caller) -> None:
        await loop.create_connection(lambda: caller, host, int(port), ssl=context)

    async with asyncio.timeout(60):
        for caller in callers:
            await connect(caller)
        for caller in callers:
            await caller.warm.wait()
        pending = sum(caller.under_way for caller in callers)
        code = await asyncio.to_thread(end)
        for caller in callers:
            await caller.lost.wait()
    return Load(callers, pending, code)
