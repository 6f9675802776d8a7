"""Clients that are known by their certificates."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from sigmax.v1 import classifier_pb2 as pb
from support import files
from support.access import bearer, token, write_tokens
from support.certificates import Authority, Pair
from support.server import PATIENCE, Serve, Server
from support.wire import read_error

GET_MODEL = "/sigmax.v1.ClassifierService/GetModel"
URI = x509.UniformResourceIdentifier("spiffe://example/vision")
DNS, EMAIL = x509.DNSName("vision.example"), x509.RFC822Name("vision@example")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository of one small model."""
    files.save(files.softmax(), tmp_path / "models", "softmax")
    return tmp_path / "models"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority of the server and of its clients."""
    return Authority(tmp_path / "authority")


@contextmanager
def connected(server: Server, authority: Authority, client: Pair | None) -> Iterator[Any]:
    """GetModel as this client calls it."""
    certificate, key = client.contents if client else (None, None)
    trusted = grpc.ssl_channel_credentials(authority.path.read_bytes(), key, certificate)
    with grpc.secure_channel(server.grpc, trusted) as channel:
        yield channel.unary_unary(GET_MODEL, pb.GetModelRequest.SerializeToString)


def said(get_model: Any, metadata: Any = None) -> tuple[str, str]:
    """The code and the text of the answer of GetModel."""
    try:
        get_model(pb.GetModelRequest(model_name="softmax"), metadata=metadata, timeout=60)
    except grpc.RpcError as error:
        refusal = read_error(error)
        return refusal.code, refusal.message
    return "OK", ""


def write_table(path: Path, who: str) -> Path:
    path.write_text(f'[[rule]]\nwho = ["{who}"]\nmay = ["describe"]\n')
    return path


@pytest.mark.parametrize(
    ("subject", "names", "identity"),
    [
        ("someone", [EMAIL, DNS, URI], "spiffe://example/vision"),
        ("someone", [EMAIL, DNS, x509.DNSName("second.example")], "vision.example"),
        ("someone", [EMAIL], "vision@example"),
        ("Someone of Us", [], "Someone of Us"),
    ],
)
def test_a_certificate_names_its_client(
    serve: Serve,
    models: Path,
    authority: Authority,
    tmp_path: Path,
    subject: str,
    names: list[x509.GeneralName],
    identity: str,
) -> None:
    table = write_table(tmp_path / "access.toml", identity)
    flags = (*authority.issue().flags, f"--tls-client-ca={authority.path}", f"--access={table}")
    server = serve(models, *flags, authority=authority.path)
    with connected(server, authority, authority.issue_to(subject, *names)) as get_model:
        assert said(get_model) == ("OK", "")
    with connected(server, authority, authority.issue_to("another")) as get_model:
        refused = ("PERMISSION_DENIED", "'another' may not describe model 'softmax'")
        assert said(get_model) == refused
    if len(names) == 0:
        # A certificate without any name is good, and nobody's.
        with connected(server, authority, authority.issue_to("")) as get_model:
            assert said(get_model)[0] == "UNAUTHENTICATED"


def test_a_token_says_who_calls_before_a_certificate_does(
    serve: Serve, models: Path, authority: Authority, tmp_path: Path
) -> None:
    tokens = write_tokens(tmp_path / "tokens", ["alice"])
    table = write_table(tmp_path / "access.toml", "alice")
    identity = (f"--tls-client-ca={authority.path}", f"--token-file={tokens}", f"--access={table}")
    server = serve(models, *authority.issue().flags, *identity, authority=authority.path)
    with connected(server, authority, authority.issue_to("bob")) as get_model:
        assert said(get_model)[0] == "PERMISSION_DENIED"
        assert said(get_model, bearer(token("alice"))) == ("OK", "")
        # A wrong token is refused, however good the certificate.
        assert said(get_model, bearer("wrong-" + token("alice")))[0] == "UNAUTHENTICATED"


def test_who_may_come_without_a_certificate_shows_a_token(
    serve: Serve, models: Path, authority: Authority, tmp_path: Path
) -> None:
    tokens = write_tokens(tmp_path / "tokens", ["alice"])
    identity = (f"--tls-client-ca={authority.path}", f"--token-file={tokens}")
    flags = (*authority.issue().flags, *identity, "--tls-client-auth=request")
    server = serve(models, *flags, authority=authority.path)
    with connected(server, authority, None) as get_model:
        assert said(get_model)[0] == "UNAUTHENTICATED"
        assert said(get_model, bearer("wrong-" + token("alice")))[0] == "UNAUTHENTICATED"
        assert said(get_model, bearer(token("alice"))) == ("OK", "")
    with connected(server, authority, authority.issue_to("bob")) as get_model:
        assert said(get_model) == ("OK", "")
    assert server.metric("sigmax_unauthenticated_total", reason="NO_CREDENTIALS") == 1
    assert server.metric("sigmax_unauthenticated_total", reason="BAD_TOKEN") == 1


def test_a_changed_table_holds_for_open_connections(
    serve: Serve, models: Path, authority: Authority, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "access.toml", "vision.example")
    flags = (*authority.issue().flags, f"--tls-client-ca={authority.path}", f"--access={table}")
    server = serve(models, *flags, authority=authority.path)
    with connected(server, authority, authority.issue("vision.example")) as get_model:
        assert said(get_model) == ("OK", "")
        write_table(table, "another")
        patience = time.monotonic() + PATIENCE
        while said(get_model)[0] == "OK":
            assert time.monotonic() < patience
        assert said(get_model)[0] == "PERMISSION_DENIED"
