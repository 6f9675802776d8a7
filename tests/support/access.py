"""Clients that show who they are, and what servers answer them."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

from support.server import PATIENCE, Server
from support.wire import Refusal, refusal, triton

AUDIENCE = "sigmax"
ISSUER = "https://issuer.test"

Metadata = tuple[tuple[str, str | bytes], ...]


def token(name: str) -> str:
    """Return a token that is of this client alone."""
    return f"secret-of-{name}-0123456789abcdef"


def bearer(secret: str) -> Metadata:
    """Return the metadata of a call that shows a token."""
    return (("authorization", f"Bearer {secret}"),)


def write_tokens(path: Path, names: Iterable[str]) -> Path:
    """Write a token file of these clients."""
    path.write_text("".join(f"{name}: {token(name)}\n" for name in names))
    return path


def enter(server: Server, metadata: Metadata | None = None) -> None:
    """Make a call that everybody may make who is known."""
    request = service_pb2.ServerMetadataRequest()
    triton(server).ServerMetadata(request, metadata=metadata, timeout=60)


def refused(server: Server, metadata: Metadata | None = None) -> Refusal:
    """Return why the server does not know who calls."""
    found = refusal(lambda: enter(server, metadata))
    assert found.code == "UNAUTHENTICATED"
    return found


def until_known(server: Server, metadata: Metadata) -> None:
    """Wait until the server knows who calls."""
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            return enter(server, metadata)
        except grpc.RpcError:
            if time.monotonic() > patience:
                raise


def until_unknown(server: Server, metadata: Metadata) -> None:
    """Wait until the server no longer knows who calls."""
    patience = time.monotonic() + PATIENCE
    while time.monotonic() < patience:
        try:
            enter(server, metadata)
        except grpc.RpcError:
            refused(server, metadata)
            return
    raise AssertionError("the caller is still known")


class Issuer:
    """An issuer of JSON Web Tokens, with one key."""

    def __init__(self, kind: str, kid: str) -> None:
        self.kid = kid
        self.algorithm: Any
        self.key: Any
        match kind:
            case "RSA":
                self.key, self.algorithm = rsa.generate_private_key(65537, 2048), RSAAlgorithm
            case "P-256":
                self.key, self.algorithm = ec.generate_private_key(ec.SECP256R1()), ECAlgorithm
            case "P-384":
                self.key, self.algorithm = ec.generate_private_key(ec.SECP384R1()), ECAlgorithm
            case "Ed25519":
                self.key, self.algorithm = ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm

    def jwk(self, **more: Any) -> dict[str, Any]:
        """Return the public key."""
        public = json.loads(self.algorithm.to_jwk(self.key.public_key()))
        return {**public, "kid": self.kid, **more}

    def sign(self, algorithm: str, claims: dict[str, Any], **head: Any) -> str:
        """Return a token of these claims alone; None as a field of its head leaves it out."""
        fields = {name: value for name, value in {"kid": self.kid, **head}.items() if value}
        return jwt.api_jws.encode(json.dumps(claims).encode(), self.key, algorithm, fields)


def claims(**more: Any) -> dict[str, Any]:
    """Return claims that are right but for those given; None leaves one out."""
    now = int(time.time())
    right = {"sub": "alice", "aud": AUDIENCE, "iss": ISSUER, "iat": now, "exp": now + 3600}
    return {name: value for name, value in {**right, **more}.items() if value is not None}


def write_keys(path: Path, *keys: dict[str, Any]) -> Path:
    """Write a JWK set."""
    path.write_text(json.dumps({"keys": keys}))
    return path
