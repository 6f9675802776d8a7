"""SIGTERM under load: what a connection's last stream id covers is answered, the exit code is 0."""

import asyncio
import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
from support import files
from support.server import Server
from support.wire import Tensor, classify_request, infer_request

Serve = Callable[..., Server]

CONNECTIONS = 8
UNDER_WAY = 32  # requests on each connection, at any time
WARM = 100  # answers on each connection before the signal
GOAWAY = 7  # the frame's type, RFC 9113, section 6.8
EVERY_STREAM = 2**31 - 1  # the last stream id of a GOAWAY that only announces another


@dataclass
class Answer:
    """What has come for one stream."""

    status: bytes | None = None
    body: int = 0
    ended: bool = False

    @property
    def good(self) -> bool:
        return self.ended and self.status == b"0" and self.body > 5


@dataclass
class Caller(asyncio.Protocol):
    """One connection that keeps requests under way until a GOAWAY.

    GOAWAY frames are taken out before h2 sees them: for h2 the first one ends the connection,
    though the answers to what was accepted have still to come.
    """

    path: str
    message: bytes
    patient: bool  # goes on asking after the announcing GOAWAY, until the one that counts
    enough: int  # answers until it is warm
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
        """Ask anew for what has been answered, and send what is to be sent."""
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
        self.warm.set()  # nobody shall wait for what cannot come
        self.lost.set()

    @property
    def accepted(self) -> dict[int, Answer]:
        assert self.last_stream is not None, "the connection was closed without a GOAWAY"
        return {at: answer for at, answer in self.answers.items() if at <= self.last_stream}


@dataclass
class Load:
    """What came of it all: the connections, the requests under way at the signal, the exit code."""

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


async def load(server: Server, callers: list[Caller]) -> Load:
    """Ask on all connections, tell the server to end, and see it through."""
    host, port = server.grpc.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        for caller in callers:
            await loop.create_connection(lambda caller=caller: caller, host, int(port))
        for caller in callers:
            await caller.warm.wait()
        pending = sum(caller.under_way for caller in callers)
        server.process.send_signal(signal.SIGTERM)
        for caller in callers:
            await caller.lost.wait()
        code = await asyncio.to_thread(server.process.wait, 60)
    return Load(callers, pending, code)


def ask_quick(patient: bool) -> Caller:
    """Classify of a network of 10-18-20-5."""
    message = classify_request("quick", Tensor.of("x", [[0.5] * 10])).SerializeToString()
    return Caller("/sigmax.v1.ClassifierService/Classify", message, patient, WARM)


def ask_slow(patient: bool, enough: int = WARM) -> Caller:
    """ModelInfer of a model that takes its time."""
    message = infer_request("slow", Tensor.of("x", [[0.5]])).SerializeToString()
    return Caller("/inference.GRPCInferenceService/ModelInfer", message, patient, enough)


@pytest.mark.parametrize("patient", [False, True], ids=["until told", "until refused"])
def test_every_accepted_request_is_answered(serve: Serve, tmp_path: Path, patient: bool) -> None:
    files.save(files.layers(), tmp_path, "quick")
    files.save(files.slow(turns=2), tmp_path, "slow")
    server = serve(tmp_path, "--shards=2")
    callers = [ask(patient) for ask in (ask_quick, ask_slow) for _ in range(CONNECTIONS // 2)]
    done = asyncio.run(load(server, callers))
    print(done)
    assert done.pending > 0
    assert all(caller.good >= WARM for caller in callers)
    for caller in callers:
        assert all(answer.good for answer in caller.accepted.values())
    assert done.answered == done.accepted
    assert done.code == 0
    assert "not answered" not in server.log()


def test_what_the_grace_does_not_suffice_for_is_counted(serve: Serve, tmp_path: Path) -> None:
    files.save(files.slow(), tmp_path, "slow")
    server = serve(tmp_path, "--shards=2", "--grace-seconds=0.01")
    done = asyncio.run(load(server, [ask_slow(patient=False, enough=1)]))
    assert done.answered < done.sent
    [lost] = re.findall(r"error: (\d+) accepted requests were not answered", server.log())
    assert 0 < int(lost) <= done.sent - done.answered
    assert done.code == 1
