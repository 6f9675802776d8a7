"""Credentials of a channel from the files of TLS, whose faults are found before gRPC sees them."""

import os
import ssl
from pathlib import Path

import grpc

from sigmax._errors import InvalidCredentials
from sigmax._tls import File, Tls


def read(tls: Tls) -> grpc.ChannelCredentials:
    """Read the files.

    Raises:
        InvalidCredentials: A file cannot be read or used; the message names the file.
    """
    if (tls.certificate is None) != (tls.key is None):
        given, missing = ("key", "certificate") if tls.key else ("certificate", "key")
        raise InvalidCredentials.in_argument(
            "tls", f"expected a certificate and its key together; got the {given} without {missing}"
        )
    if not isinstance(tls.server_name, str) or not tls.server_name.isprintable():
        raise InvalidCredentials.in_argument(
            "tls", f"expected a host's name as server_name, got {tls.server_name!r}"
        )
    ca = None if tls.ca is None else _authorities(tls.ca)
    if tls.certificate is None or tls.key is None:
        return grpc.ssl_channel_credentials(ca)
    chain, key = _content(tls.certificate), _content(tls.key)
    _check_pair(tls.certificate, tls.key)
    return grpc.ssl_channel_credentials(ca, key, chain)


def _authorities(file: File) -> bytes:
    raw = _content(file)
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=raw.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        raise _unusable(file, "certificates in PEM", error) from error
    return raw


def _check_pair(certificate: File, key: File) -> None:
    """Refuse a certificate and a key that do not fit, which gRPC says of no file, and late."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedKeyError as error:
        raise _unusable(key, "a private key without a password", "an encrypted one") from error
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            wanted = f"the private key of the certificate in {os.fspath(certificate)}"
            raise _unusable(key, wanted, "another one") from error
        for file, wanted in ((certificate, "CERTIFICATE"), (key, "PRIVATE KEY")):
            if f"{wanted}-----".encode() not in _content(file):
                raise _unusable(file, f"PEM with a {wanted}", "none") from error
        wanted = f"the key of {os.fspath(certificate)} in PEM"
        raise _unusable(key, wanted, error) from error
    except OSError as error:
        raise _unusable(key, "a readable file", error) from error


class _EncryptedKeyError(Exception):
    """The file of a key asks for a password."""


def _no_password() -> str:
    raise _EncryptedKeyError


def _content(file: File) -> bytes:
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidCredentials.in_argument(
            "tls", f"cannot read {os.fspath(file)}: {getattr(error, 'strerror', None) or error}"
        ) from error


def _unusable(file: File, wanted: str, came: object) -> InvalidCredentials:
    return InvalidCredentials.in_argument(
        "tls", f"{os.fspath(file)}: expected {wanted}, got {came}"
    )
