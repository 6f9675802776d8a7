"""Certificates that tests make, each authority with its own files."""

import itertools
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

HOURS = timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate, with those of its issuers, and of its key."""

    certificate: Path
    key: Path

    @property
    def flags(self) -> tuple[str, str]:
        """Arguments of `sigmax serve` that serve gRPC with it."""
        return f"--tls-certificate={self.certificate}", f"--tls-key={self.key}"

    @property
    def contents(self) -> tuple[bytes, bytes]:
        """The bytes of certificate and key."""
        return self.certificate.read_bytes(), self.key.read_bytes()

    def write(self, contents: tuple[bytes, bytes]) -> None:
        """Replace the contents of certificate and key."""
        self.certificate.write_bytes(contents[0])
        self.key.write_bytes(contents[1])


@dataclass
class Authority:
    """An authority of certificates, whose files are in this folder."""

    folder: Path
    _ca: trustme.CA = field(default_factory=trustme.CA)
    _numbers: Any = field(default_factory=itertools.count)

    @property
    def path(self) -> Path:
        """The file of the authority's own certificate."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "authority.pem"
        if not path.exists():
            self._ca.cert_pem.write_to_path(str(path))
        return path

    def issue(
        self,
        *names: str,
        ends: timedelta = 24 * HOURS,
        begins: timedelta = -24 * HOURS,
        kind: str = "ECDSA",
    ) -> Pair:
        """Issue a certificate.

        Args:
            names: Names that it is for; by default this machine.
            ends: Time from now until it is not valid.
            begins: Time from now until it is valid.
            kind: Kind of its key, "ECDSA" (P-256) or "RSA" (2048 bits).
        """
        now = datetime.now(UTC)
        issued = self._ca.issue_cert(
            *(names or ("localhost", "127.0.0.1")),
            not_before=now + begins,
            not_after=now + ends,
            key_type=trustme.KeyType[kind],
        )
        number = next(self._numbers)
        pair = Pair(self.path.with_name(f"{number}.pem"), self.path.with_name(f"{number}.key"))
        pair.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        pair.key.write_bytes(issued.private_key_pem.bytes())
        return pair

    def issue_to(self, subject: str, *names: x509.GeneralName) -> Pair:
        """Issue a certificate of any kinds of names, for one who is not found by its name."""
        key, own = ec.generate_private_key(ec.SECP256R1()), self._ca
        issuer = x509.load_pem_x509_certificate(own.cert_pem.bytes())
        signer: Any = load_pem_private_key(own.private_key_pem.bytes(), None)
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - HOURS)
            .not_valid_after(now + HOURS)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        written = builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        number = next(self._numbers)
        pair = Pair(self.path.with_name(f"{number}.pem"), self.path.with_name(f"{number}.key"))
        pair.write((written, key.private_bytes(*form)))
        return pair


def client_context(authority: Path, client: Pair | None = None) -> ssl.SSLContext:
    """Return how a client of gRPC speaks TLS."""
    context = ssl.create_default_context(cafile=str(authority))
    context.set_alpn_protocols(["h2"])
    if client:
        context.load_cert_chain(client.certificate, client.key)
    return context
