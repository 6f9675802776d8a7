"""TLS of a connection, as a caller says it; `_credentials` reads the files."""

import os
from dataclasses import dataclass
from typing import TypeAlias

from sigmax._errors import InvalidCredentials

File: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a client speaks TLS. Files hold PEM, and are read when the client is made.

    Attributes:
        ca: File of the authorities that the server's certificate may come from; None for those
            that gRPC brings, or that its variable GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names.
        certificate: File of the client's own certificate and its issuers, for servers that ask for
            one; None for none.
        key: File of the certificate's private key, without a password.
        server_name: Name that the server's certificate must have; empty for the host in the
            address. Needed for several addresses, and where the address is not in the certificate,
            such as that of a tunnel.
    """

    ca: File | None = None
    certificate: File | None = None
    key: File | None = None
    server_name: str = ""


def read(tls: "bool | File | Tls | None") -> Tls | None:
    """Return what an argument `tls` means; None for no TLS.

    Raises:
        InvalidCredentials: The argument is of another type, or empty.
    """
    if tls is None or tls is False:
        return None
    if tls is True:
        return Tls()
    if isinstance(tls, Tls):
        return tls
    if isinstance(tls, str | os.PathLike) and os.fspath(tls):
        return Tls(ca=tls)
    raise InvalidCredentials.in_argument(
        "tls", f"expected True, the file of a CA, or sigmax.Tls; got {tls!r}"
    )
