"""Clients over TLS: those that are let in, and those that refuse or are refused."""

import ssl
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path

import grpc
import numpy as np
import pytest
from support.certificates import HOURS, Authority, Pair, client_context
from support.raw import INFER, Raw
from support.server import Serve, Server
from support.wire import Tensor, classify, infer, infer_request

Secure = Callable[..., Server]

ROW = Tensor.of("x", np.zeros((1, 5)))
ASKED = infer_request("softmax", ROW).SerializeToString()
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def status(server: Server, credentials: grpc.ChannelCredentials | None, host: str = "") -> str:
    """The name of the status of a request on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if host:
        options.append(("grpc.ssl_target_name_override", host))  # type: ignore[arg-type]
    if credentials is None:
        channel = grpc.insecure_channel(server.grpc, options=options)
    else:
        channel = grpc.secure_channel(server.grpc, credentials, options=options)
    with channel:
        try:
            channel.unary_unary(INFER)(ASKED, timeout=60)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def trusting(authority: Authority, client: Pair | None = None) -> grpc.ChannelCredentials:
    chain, key = client.contents if client else (None, None)
    return grpc.ssl_channel_credentials(authority.path.read_bytes(), key, chain)


def goes_on(server: Server) -> None:
    """The server answers a good client, and its operators."""
    server.hang_up()
    assert classify(server, "softmax", ROW).rows
    assert server.get("/readyz") == (200, "ready\n")


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_both_services_answer(secure: Secure, authority: Authority, kind: str) -> None:
    server = secure(pair=authority.issue(kind=kind))
    assert classify(server, "softmax", ROW).rows[0].decision[0].label == "a"
    assert np.allclose(infer(server, "softmax", ROW)[0].array, 0.2)
    assert server.metric("sigmax_tls_handshakes_total", kind="full") >= 1
    assert server.stop() == 0


def test_a_message_of_many_records_comes_and_goes_whole(secure: Secure) -> None:
    server = secure("--max-batch-size=65536", "--queue-rows=65536")
    rows = np.random.default_rng(0).normal(size=(50_000, 5)).astype(np.float32)
    share = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    for _ in range(3):
        [found] = infer(server, "softmax", Tensor.of("x", rows))
        np.testing.assert_allclose(found.array, share, rtol=1e-4)


@pytest.mark.parametrize("version", VERSIONS)
def test_clients_of_either_version(secure: Secure, authority: Authority, version: str) -> None:
    server = secure()
    context = client_context(authority.path)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    connection = server.grpc.connect(context)
    assert isinstance(connection, ssl.SSLSocket)
    assert (connection.version(), connection.selected_alpn_protocol()) == (f"TLSv{version}", "h2")
    with Raw(connection) as raw:
        assert raw.answer(raw.ask(INFER, ASKED)).status == "0"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed(secure: Secure, authority: Authority, version: str) -> None:
    server = secure()
    context = client_context(authority.path)
    context.maximum_version = VERSIONS[version]
    session = None
    for resumed in (0, 1):
        connection = server.grpc.connect(context, session=session)
        assert isinstance(connection, ssl.SSLSocket)
        with Raw(connection) as raw:
            assert raw.answer(raw.ask(INFER, ASKED)).status == "0"
            session = connection.session
            assert connection.session_reused == bool(resumed)
        server.until(resumed, "sigmax_tls_handshakes_total", kind="resumed")


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]], ids=["none", "another"])
def test_a_client_without_http2_is_refused(
    secure: Secure, authority: Authority, protocols: list[str]
) -> None:
    server = secure()
    context = ssl.create_default_context(cafile=str(authority.path))
    if protocols:
        context.set_alpn_protocols(protocols)
    with pytest.raises(ssl.SSLError, match="alert"):
        server.grpc.connect(context).close()
    server.until(1, "sigmax_tls_handshakes_failed_total", reason="incompatible")
    goes_on(server)


def test_a_client_that_trusts_another_authority_refuses(secure: Secure, tmp_path: Path) -> None:
    server = secure()
    other = Authority(tmp_path / "other")
    assert status(server, trusting(other)) == "UNAVAILABLE"
    goes_on(server)


def test_a_client_that_expects_another_name_refuses(secure: Secure, authority: Authority) -> None:
    server = secure(pair=authority.issue("localhost", "127.0.0.1"))
    assert status(server, trusting(authority)) == "OK"
    assert status(server, trusting(authority), host="another") == "UNAVAILABLE"
    goes_on(server)


def test_an_expired_certificate_is_refused_and_said_at_the_start(
    secure: Secure, authority: Authority
) -> None:
    server = secure(pair=authority.issue(ends=-HOURS))
    server.until_logged("the certificate expired on")
    assert status(server, trusting(authority)) == "UNAVAILABLE"
    assert server.get("/readyz") == (200, "ready\n")


def test_a_plaintext_client_of_a_tls_port(secure: Secure) -> None:
    server = secure()
    assert status(server, None) == "UNAVAILABLE"
    assert server.metric("sigmax_tls_handshakes_failed_total", reason="not_tls") >= 1
    goes_on(server)


def test_a_tls_client_of_a_plaintext_port(serve: Serve, models: Path, authority: Authority) -> None:
    server = serve(models)
    assert status(server, trusting(authority)) == "UNAVAILABLE"
    goes_on(server)


def test_a_unix_socket_stays_plain(secure: Secure, tmp_path: Path) -> None:
    server = secure(f"--listen=unix:{tmp_path}/socket")
    with grpc.insecure_channel(f"unix:{tmp_path}/socket") as channel:
        assert channel.unary_unary(INFER)(ASKED, timeout=60)
    goes_on(server)


@pytest.mark.parametrize("mode", ["require", "request"])
def test_clients_certificates(
    secure: Secure, authority: Authority, tmp_path: Path, mode: str
) -> None:
    clients, others = Authority(tmp_path / "clients"), Authority(tmp_path / "others")
    server = secure(f"--tls-client-ca={clients.path}", f"--tls-client-auth={mode}")
    expected = {
        "good": (clients.issue("someone"), "OK"),
        "none": (None, "UNAUTHENTICATED" if mode == "request" else "UNAVAILABLE"),
        "another authority's": (others.issue("someone"), "UNAVAILABLE"),
        "expired": (clients.issue("someone", ends=-HOURS), "UNAVAILABLE"),
        "not yet valid": (clients.issue("someone", begins=HOURS), "UNAVAILABLE"),
    }
    for name, (client, code) in expected.items():
        refused = server.metric("sigmax_tls_handshakes_failed_total", reason="client_certificate")
        assert status(server, trusting(authority, client)) == code, name
        now = server.metric("sigmax_tls_handshakes_failed_total", reason="client_certificate")
        assert (now > refused) == (code == "UNAVAILABLE"), name
    assert server.get("/readyz") == (200, "ready\n")


def test_a_session_is_not_resumed_for_an_expired_client(
    secure: Secure, authority: Authority, tmp_path: Path
) -> None:
    clients = Authority(tmp_path / "clients")
    server = secure(f"--tls-client-ca={clients.path}")
    # Long enough for a first connection on a busy machine, and short enough to wait for.
    client = clients.issue("someone", ends=timedelta(seconds=10))
    context = client_context(authority.path, client)
    with Raw(server.grpc.connect(context)) as raw:
        assert raw.answer(raw.ask(INFER, ASKED)).status == "0"
        assert isinstance(raw.socket, ssl.SSLSocket)
        session = raw.socket.session
    kept = server.grpc.connect(client_context(authority.path, clients.issue("another")))
    with Raw(kept) as raw:
        while server.metric("sigmax_tls_handshakes_failed_total", reason="client_certificate") == 0:
            with Raw(server.grpc.connect(context, session=session)) as again:
                again.ping()
        assert raw.answer(raw.ask(INFER, ASKED)).status == "0"


def test_the_http_port_over_tls(secure: Secure, tmp_path: Path) -> None:
    clients = Authority(tmp_path / "clients")
    server = secure("--http-tls", f"--tls-client-ca={clients.path}")
    assert server.get("/healthz") == (200, "alive\n")
    assert server.get("/readyz") == (200, "ready\n")
    assert server.metric("sigmax_tls_handshakes_total", kind="full") >= 2
    with pytest.raises(HTTPException):
        urllib.request.urlopen(f"http://{server.http}/healthz", timeout=60)
    assert server.metric("sigmax_tls_handshakes_failed_total", reason="not_tls") == 1
