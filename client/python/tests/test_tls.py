"""Clients speak TLS, and say at once what is wrong with it."""

import datetime
import pickle
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import sigmax

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def test_by_the_file_of_a_ca(make: Any, listen: Any, authority: Any) -> None:
    address = listen(authority.server("127.0.0.1"))
    for tls in (authority.file, str(authority.file), sigmax.Tls(ca=authority.file)):
        client = make(address, tls=tls, timeout=60.0)
        client.wait_until_ready()
        assert client.classify("animal", [0, 1, 0]).label == "mammal"
        [(key, result)] = client.classify_stream("animal", [("k", [0, 0, 1])])
        assert (key, result.label) == ("k", "reptile")


def test_by_the_authorities_of_grpc(
    make: Any, listen: Any, authority: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = listen(authority.server("127.0.0.1"))
    with pytest.raises(sigmax.Unavailable, match="an authority that is not trusted here"):
        make(address, tls=True, timeout=60.0).models()


def test_by_another_name(make: Any, listen: Any, authority: Any) -> None:
    address = listen(authority.server("sigmax.test"))
    tls = sigmax.Tls(ca=authority.file, server_name="sigmax.test")
    assert make(address, tls=tls, timeout=60.0).models()


def test_with_a_certificate_of_the_client(make: Any, listen: Any, authority: Any) -> None:
    address = listen(authority.server("127.0.0.1", client_ca=authority.file))
    certificate, key = authority.issue("me@sigmax.test")
    tls = sigmax.Tls(ca=authority.file, certificate=certificate, key=key)
    assert make(address, tls=tls, timeout=60.0).models()


def test_by_credentials_of_grpc(make: Any, listen: Any, authority: Any, peer: Any) -> None:
    address = listen(authority.server("127.0.0.1"))
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    assert make(address, credentials=credentials, token="t", timeout=60.0).models()
    assert peer.metadata[-1]["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("stranger", "an authority that is not trusted here: name the file of its CA"),
        ("name", r"for another name: .*sigmax.Tls\(server_name=...\), or --tls-server-name"),
        ("expired", "has expired: the server needs a new one"),
        ("early", "not valid yet: compare the clocks"),
        ("plaintext", "does not speak TLS at this port"),
    ],
)
def test_what_no_retry_mends_is_told_at_once(
    make: Any, listen: Any, peer: Any, authority: Any, stranger: Any, fault: str, said: str
) -> None:
    future = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=100)
    address = {
        "stranger": lambda: listen(stranger.server("127.0.0.1")),
        "name": lambda: listen(authority.server("sigmax.test")),
        "expired": lambda: listen(authority.server("127.0.0.1", not_after=PAST)),
        "early": lambda: listen(authority.server("127.0.0.1", not_before=future)),
        "plaintext": lambda: peer.address,
    }[fault]()
    # Without an end, retries would go on for ever.
    client = make(address, tls=authority.file, timeout=float("inf"))
    for call in (client.models, lambda: client.wait_until_ready(timeout=float("inf"))):
        with pytest.raises(sigmax.Unavailable, match=said) as caught:
            call()
        assert caught.value.reason == "TLS_FAILED"
        assert str(caught.value).isprintable()


def test_a_server_that_ends_connections_may_want_what_the_client_lacks(
    make: Any, listen: Any, authority: Any
) -> None:
    address = listen(authority.server("127.0.0.1", client_ca=authority.file))
    with pytest.raises(sigmax.Unavailable, match="may want TLS: tls=, or --tls") as caught:
        make(address, retries=0, timeout=60.0).models()
    assert caught.value.reason == "NOT_CONNECTED"
    with pytest.raises(sigmax.Unavailable, match="may want a certificate of the client"):
        make(address, tls=authority.file, retries=0, timeout=60.0).models()


@pytest.fixture
def shake_hands(authority: Any) -> Iterator[Callable[[ssl.SSLContext], str]]:
    """Has a server of TLS alone shake hands with all who come; returns its address."""
    with ExitStack() as running:

        def serve(listener: socket.socket, context: ssl.SSLContext) -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with (
                    connection,
                    suppress(OSError),
                    context.wrap_socket(connection, server_side=True) as shaken,
                ):
                    shaken.recv(1)

        def start(context: ssl.SSLContext) -> str:
            context.load_cert_chain(*authority.issue("127.0.0.1"))
            listener = running.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=serve, args=(listener, context))
            thread.start()
            running.callback(thread.join)
            running.callback(listener.shutdown, socket.SHUT_RDWR)
            return f"127.0.0.1:{listener.getsockname()[1]}"

        yield start


def test_a_server_refuses_the_certificate_of_the_client(
    make: Any, shake_hands: Any, authority: Any, stranger: Any
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    address = shake_hands(context)
    certificate, key = stranger.issue("me@sigmax.test")
    for tls in (
        sigmax.Tls(ca=authority.file),
        sigmax.Tls(ca=authority.file, certificate=certificate, key=key),
    ):
        with pytest.raises(sigmax.Unavailable, match="certificate of the client that it trusts"):
            make(address, tls=tls, timeout=float("inf")).models()


def test_a_server_of_tls_that_is_not_of_grpc(make: Any, shake_hands: Any, authority: Any) -> None:
    address = shake_hands(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    with pytest.raises(sigmax.Unavailable, match="speaks TLS, and not HTTP/2"):
        make(address, tls=authority.file, timeout=float("inf")).models()


def test_files_are_checked_when_a_client_is_made(
    make: Any, authority: Any, stranger: Any, tmp_path: Path
) -> None:
    certificate, key = authority.issue("me@sigmax.test")
    other = stranger.issue("me@sigmax.test")[1]
    text = tmp_path / "text.pem"
    text.write_text("no PEM\n")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    locked = tmp_path / "locked.key"
    locked.write_bytes(encrypted(key))
    missing = tmp_path / "missing.pem"
    for tls, said in (
        (missing, f"tls: cannot read {missing}: No such file or directory"),
        (tmp_path, f"tls: cannot read {tmp_path}: Is a directory"),
        (text, f"tls: {text}: expected certificates in PEM"),
        (broken, f"tls: {broken}: expected certificates in PEM"),
        (key, f"tls: {key}: expected certificates in PEM"),
        (sigmax.Tls(certificate=certificate), "got the certificate without key"),
        (sigmax.Tls(key=key), "got the key without certificate"),
        (sigmax.Tls(certificate=missing, key=key), f"cannot read {missing}"),
        (sigmax.Tls(certificate=certificate, key=missing), f"cannot read {missing}"),
        (sigmax.Tls(certificate=text, key=key), f"{text}: expected PEM with a CERTIFICATE"),
        (sigmax.Tls(certificate=certificate, key=text), f"{text}: expected PEM with a PRIVATE KEY"),
        (
            sigmax.Tls(certificate=certificate, key=other),
            f"{other}: expected the private key of the certificate in {certificate}, got another",
        ),
        (
            sigmax.Tls(certificate=certificate, key=locked),
            f"{locked}: expected a private key without a password",
        ),
        ("", "expected True, the file of a CA, or sigmax.Tls; got ''"),
        (7, "expected True, the file of a CA, or sigmax.Tls; got 7"),
    ):
        with pytest.raises(sigmax.InvalidCredentials) as caught:
            make("localhost", tls=tls)
        assert said in str(caught.value)
        assert (caught.value.code, caught.value.reason) == ("INVALID_ARGUMENT", "BAD_CREDENTIALS")


def encrypted(key: Path) -> bytes:
    """Return a private key with a password."""
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def test_arguments_that_exclude_each_other(make: Any, authority: Any) -> None:
    with pytest.raises(sigmax.InvalidCredentials, match="these or tls=, got both"):
        make("localhost", tls=True, credentials=grpc.ssl_channel_credentials())
    with pytest.raises(sigmax.InvalidCredentials, match=r"expected grpc\.ChannelCredentials"):
        make("localhost", credentials=ssl.create_default_context())
    with pytest.raises(sigmax.InvalidCredentials, match="beside several addresses"):
        make("127.0.0.1:1,127.0.0.1:2", tls=True)


def test_a_tls_keeps_paths_only(authority: Any) -> None:
    tls = sigmax.Tls(ca=authority.file, key="me.key", certificate="me.pem")
    assert pickle.loads(pickle.dumps(tls)) == tls
    assert "BEGIN" not in repr(tls)
