"""Clients that misuse TLS. Attacks inside TLS are those of other files, which `EITHER` marks."""

import os
import socket
import ssl
import subprocess
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from hyperframe.frame import SettingsFrame
from support.attack import MODEL, Target, attacked, scaled
from support.certificates import client_context
from support.raw import INFER, PREFACE, Raw, call, packed
from support.server import Server
from support.wire import Tensor, infer_request

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("target", ["tls"], indirect=True)]


BEGUN = PREFACE + SettingsFrame(0).serialize()


def hello(server: Server) -> bytes:
    """The first message of a client."""
    assert server.grpc.authority
    ours, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context(server.grpc.authority)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ours, out, server_hostname="localhost").do_handshake()
    return out.read()


def record(kind: int, content: bytes) -> bytes:
    """A record of TLS 1.2 that is not encrypted."""
    return bytes([kind, 3, 3]) + len(content).to_bytes(2, "big") + content


def test_half_handshakes_keep_nobody_out(target: Target) -> None:
    """Clients that say nothing, half a hello, or a hello and no more take every place."""
    server = target("--max-connections=64")
    whole = hello(server)
    with attacked(server, may_be_refused=True) as good, ExitStack() as clients:
        for number in range(scaled(200)):
            begin = (b"", whole[:100], whole)[number % 3]
            clients.enter_context(Raw(str(server.grpc), begin))
        for _ in range(3):
            good.goes_on()
    assert len(server.log().splitlines()) < 20


def test_slow_handshakes_are_ended(target: Target) -> None:
    """A client that sends its hello in bytes is ended, as is one that never answers."""
    server = target("--handshake-seconds=1")
    whole = hello(server)
    with attacked(server) as good, ExitStack() as clients:
        raws = [clients.enter_context(Raw(str(server.grpc), b"")) for _ in range(scaled(20))]
        late = server.metric("sigmax_handshakes_late_total")
        for at in range(100):
            for raw in raws:
                raw.send(whole[at : at + 1])
                raw.read(0.001)
        raws += [clients.enter_context(Raw(str(server.grpc), whole)) for _ in range(scaled(20))]
        for raw in raws:
            while not raw.closed:
                raw.socket.settimeout(60)
                raw.closed = not raw.socket.recv(2**16)
        assert server.metric("sigmax_handshakes_late_total") - late == len(raws)
        good.goes_on()


@pytest.mark.hostile
def test_4096_silent_clients(target: Target) -> None:
    server = target("--max-connections=5000")
    with attacked(server) as good, ExitStack() as clients:
        for _ in range(4096):
            clients.enter_context(Raw(str(server.grpc), b""))
        for _ in range(3):
            good.goes_on()
        assert server.metric("sigmax_open_connections") >= 4096


RUBBISH = {
    "a hello that never ends": record(22, b"\1\xff\xff\xff" + bytes(10_000)) * 10,
    "an empty hello": record(22, b"\1\0\0\0"),
    "empty records": record(22, b"") * 10_000,
    "alerts": record(21, b"\1\0") * 10_000,
    "changes of cipher": record(20, b"\1") * 10_000,
    "data": record(23, bytes(16_384)) * 10,
    "a record that is too long": b"\x16\3\3\xff\xff" + bytes(2**16),
    "HTTP/1.1": b"GET / HTTP/1.1\r\n\r\n",
    "random bytes": os.urandom(10_000),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_in_the_place_of_a_hello(target: Target, kind: str) -> None:
    """Clients that begin with rubbish, or go on with it after a hello, are sent away at once."""
    server = target()
    with attacked(server) as good:
        for begin in (b"", hello(server)):
            for _ in range(scaled(10)):
                with Raw(str(server.grpc), b"") as raw:
                    raw.send(begin + RUBBISH[kind])
                    raw.socket.settimeout(60)
                    try:
                        while raw.socket.recv(2**16):
                            pass
                    except ConnectionResetError:
                        pass
        good.goes_on()


@pytest.mark.parametrize("cut", [1, 5, 1000])
def test_records_that_are_cut_or_changed(target: Target, cut: int) -> None:
    """A record that is half sent, or whose bytes are changed, ends its own connection at most."""
    server = target("--stall-seconds=2")
    assert server.grpc.authority
    context = client_context(server.grpc.authority)
    with attacked(server) as good, ExitStack() as clients:
        for number in range(scaled(20)):
            opened = clients.enter_context(Raw(str(server.grpc), b"")).socket
            opened.settimeout(60)
            came, out = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = context.wrap_bio(came, out, server_hostname="localhost")
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    opened.sendall(out.read())
                    came.write(opened.recv(2**16))
            session.write(BEGUN + b"".join(f.serialize() for f in call(1, INFER, bytes(2000))))
            sent = bytearray(out.read())
            if number % 2:
                sent[-cut] ^= 1
            else:
                del sent[-cut:]
            opened.sendall(sent)
        good.goes_on()


@pytest.mark.parametrize(
    ("version", "command", "told"),
    [
        ("-tls1_2", "R", "RENEGOTIATING"),
        ("-tls1_3", "k", "KEYUPDATE"),
        ("-tls1_3", "K", "KEYUPDATE"),
    ],
    ids=["renegotiation", "new keys", "new keys of both"],
)
def test_a_client_asks_again_for_work(
    target: Target, version: str, command: str, told: str
) -> None:
    """A client has no second handshake, and is ended when it changes keys without end."""
    server = target()
    words = ["openssl", "s_client", version, "-connect", server.grpc, "-alpn", "h2"]
    with attacked(server) as good:
        for _ in range(scaled(5)):
            with subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as client:
                assert client.stdin
                assert client.stderr
                commands = 0
                for line in client.stderr:
                    if line == f"{told}\n":
                        commands += 1
                    if (line == "verify return:1\n" or commands) and commands < 10_000:
                        with suppress(BrokenPipeError):
                            os.write(client.stdin.fileno(), f"{command}\n".encode())
                    elif commands:
                        client.kill()
            assert 0 < commands < 10_000
        good.goes_on()


def test_answers_that_are_never_taken(target: Target) -> None:
    """The windows are open and nothing is read: more than the buffers of both ends hold waits.

    What is sent fits into the server's own window, because its updates are not read either.
    """
    server = target("--stall-seconds=1")
    asked = infer_request(MODEL, Tensor.of("x", np.zeros((500, 5)))).SerializeToString()
    stalled = server.metric("sigmax_connections_stalled_total")
    with attacked(server) as good, server.grpc.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        raw = Raw(connection, window=2**31 - 1)
        raw.open_window(0, 2**30)
        calls = [frame for _ in range(800) for frame in call(raw.next(), INFER, asked)]
        assert len(packed(calls)) < 2**23
        raw.pour(packed(calls), reads=False)
        server.until(stalled + 1, "sigmax_connections_stalled_total")
        good.goes_on()
