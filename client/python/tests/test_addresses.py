"""Addresses are read as people write them, or refused at once; proxies are not for this machine."""

import itertools
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import sigmax
from sigmax import _address


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("localhost", "localhost:8001"),
        ("example.org", "example.org:8001"),
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("model_server-1:65535", "model_server-1:65535"),
        ("dns:8001", "dns:8001"),  # a host of that name
        ("::1", "[::1]:8001"),
        ("[::1]", "[::1]:8001"),
        ("[fe80::1%eth0]:80", "[fe80::1%eth0]:80"),
        ("unix:/run/sigmax.sock", "unix:/run/sigmax.sock"),
        ("unix:///run/sigmax.sock", "unix:///run/sigmax.sock"),
        ("dns:///example.org:8001", "dns:///example.org:8001"),
        ("dns:///example.org", "dns:///example.org:8001"),
        ("dns:localhost", "dns:localhost:8001"),
        ("dns://8.8.8.8/example.org", "dns://8.8.8.8/example.org:8001"),
        ("dns:[::1]", "dns:[::1]:8001"),
        ("ipv4:10.0.0.1", "ipv4:10.0.0.1:8001"),
        ("ipv6:[::1]", "ipv6:[::1]:8001"),
        ("ipv6:::1", "ipv6:[::1]:8001"),
        ("xds:///example.org", "xds:///example.org"),
        ("10.0.0.1, 10.0.0.2:80", "ipv4:10.0.0.1:8001,10.0.0.2:80"),
        ("[::1]:80,::2", "ipv6:[::1]:80,[::2]:8001"),
        (["10.0.0.1", "10.0.0.2:80"], "ipv4:10.0.0.1:8001,10.0.0.2:80"),
        (["localhost"], "localhost:8001"),
        ("ipv4:10.0.0.1:80,10.0.0.2:80", "ipv4:10.0.0.1:80,10.0.0.2:80"),
    ],
)
def test_addresses_and_their_targets(address: Any, target: str) -> None:
    assert _address.parse(address).name == target


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("http://localhost:8001", "without 'http://'"),
        ("https://example.org", "without 'https://'"),
        ("grpc://localhost", "without 'grpc://'"),
        ("", 'expected "HOST", "HOST:PORT" or "unix:PATH"; got'),
        ("  ", "expected"),
        ("localhost:65536", "a port from 1 to 65535"),
        ("localhost:0", "a port from 1 to 65535"),
        ("localhost:", "a port from 1 to 65535"),
        ("localhost:grpc", "a port from 1 to 65535"),
        ("localhost:-1", "a port from 1 to 65535"),
        ("localhost:\N{ARABIC-INDIC DIGIT ONE}", "a port from 1 to 65535"),
        ("localhost:" + "9" * 5000, "a port from 1 to 65535"),
        (":8001", "expected"),
        ("localhost:8001/models", "a port from 1 to 65535"),
        ("local host", "expected"),
        ("localhost\n", "expected"),
        ("me@localhost", "expected"),
        ("a,b", "gRPC looks up one name only"),
        (["a", "10.0.0.1"], "for several IP addresses of one family"),
        ("10.0.0.1,[::1]", "for several IP addresses of one family"),
        ("dns:///a,b", "expected"),
        ("10.0.0.1,", "expected"),
        ("10.0.0.1:1,10.0.0.2:x", "a port from 1 to 65535"),
        ([], "for several IP addresses of one family"),
        ([8001], "got 8001"),
        (["10.0.0.1", 8001], "got ['10.0.0.1', 8001]"),
        ("[::1", "an IPv6 address in the brackets"),
        ("[localhost]:8001", "an IPv6 address in the brackets"),
        ("[::1]8001", "an IPv6 address in the brackets"),
        ("a:b:c", "an IPv6 address in brackets before the port"),
        ("unix:", "expected"),
        (None, "got None"),
        (b"localhost", "got b'localhost'"),
        (8001, "got 8001"),
    ],
)
def test_what_is_no_address_is_refused_at_once(make: Any, address: Any, wanted: str) -> None:
    with pytest.raises(sigmax.InvalidAddress) as caught:
        make(address)
    assert wanted in str(caught.value)
    assert str(caught.value).isprintable()
    assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "BAD_ADDRESS")
    assert caught.value.fields == {"address": str(caught.value)}


def test_a_unix_socket(make: Any, peer: Any, tmp_path: Path) -> None:
    server = peer.server()
    server.add_insecure_port(f"unix:{tmp_path / 'socket'}")
    server.start()
    assert make(f"unix:{tmp_path / 'socket'}", timeout=60.0).models()
    server.stop(None).wait()


class Proxy:
    """A proxy that says something to every connection, and ends it."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.host = f"127.0.0.1:{listener.getsockname()[1]}"
        self.answer = b""

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(self.answer)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy; no variable names it yet."""
    for variable in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Proxy(listener)
        thread = threading.Thread(target=made.serve)
        thread.start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


PROXIES = ["grpc_proxy", "https_proxy", "http_proxy"]


@pytest.mark.parametrize("variable", PROXIES)
def test_a_proxy_does_not_lead_to_this_machine(
    make: Any, peer: Any, proxy: Proxy, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"http://{proxy.host}")
    port = peer.address.rpartition(":")[2]
    with grpc.insecure_channel(peer.address) as plain, pytest.raises(grpc.FutureTimeoutError):
        grpc.channel_ready_future(plain).result(0.2)  # gRPC's own default goes to the proxy
    for host in ("127.0.0.1", "localhost"):
        assert make(f"{host}:{port}", timeout=60.0).models()


@pytest.mark.parametrize("variable", PROXIES)
def test_a_proxy_that_leads_nowhere_is_named(
    make: Any, proxy: Proxy, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"http://me:secret@{proxy.host}")
    for answer in (b"", b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", b"\x1b[2J\r\n"):
        proxy.answer = answer
        named = f"the variable {variable} names a proxy, {proxy.host}; no_proxy lists hosts"
        for tls in (False, True):
            with pytest.raises(sigmax.Unavailable, match=named) as caught:
                make("sigmax.invalid", tls=tls, timeout=60.0, retries=0).models()
            assert "secret" not in str(caught.value)


def test_hosts_of_this_machine() -> None:
    local = ["localhost", "LOCALHOST.", "a.localhost", "127.1.2.3", "0.0.0.0", "::1", "[::]"]
    local += [
        "::ffff:127.0.0.1",
        "unix:/x",
        "ipv6:[::1]:80",
        "ipv4:127.0.0.1",
        "dns:///localhost:1",
    ]
    local += ["127.0.0.1:1,127.0.0.2:2", "ipv6:[::1]", "dns:127.0.0.1", "dns://8.8.8.8/127.0.0.1"]
    distant = [
        "dns://8.8.8.8/localhost",
        "xds:///localhost",
        "127.0.0.1,10.0.0.1",
        "localhost.example.org",
        "10.0.0.1",
        "[fe80::1]:80",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
    ]
    for address, expected in itertools.chain(
        ((each, True) for each in local), ((each, False) for each in distant)
    ):
        assert (address, _address.parse(address).is_local) == (address, expected)
