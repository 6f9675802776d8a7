"""The health check of a container, by grpc.health.v1: `python -m sigmax_server.health`.

The server's installation has no gRPC for Python. One call with an answer of two bytes needs only
some frames of HTTP/2 (RFC 9113), which this module writes itself.
"""

import os
import socket
import sys
from contextlib import suppress
from typing import Any, BinaryIO

from sigmax_server.address import address
from sigmax_server.config import SETTINGS, ConfigError, ServerConfig

TIMEOUT = 3.0  # most seconds of each step: connecting, and each read and write

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_STREAM = 1  # number of the only stream; stream 0 is the connection itself
_NO_FIELDS = b"\0\0\0\0\0"  # an empty message: gRPC's prefix, not compressed, length 0
_STATUSES = {
    b"\0\0\0\0\0": "UNKNOWN",
    b"\0\0\0\0\2\x08\1": "SERVING",
    b"\0\0\0\0\2\x08\2": "NOT_SERVING",
}


def main() -> int:
    """Check the server whose address the environment's variables give, and print its status.

    Returns:
        The exit code: 0 where the server is ready, otherwise 1.
    """
    try:
        host, port = _setting("host"), _setting("grpc_port")
    except ConfigError as error:
        return _end(str(error), False)
    try:
        status = check(host, port)
    except OSError as error:
        status = str(error)
    return _end(f"{address(host, port)}: {status}", status == "SERVING")


def _setting(name: str) -> Any:
    [setting] = (each for each in SETTINGS if each.name == name)
    text = os.environ.get(setting.variable)
    return setting.parse(text) if text else getattr(ServerConfig, name)


def _end(line: str, is_ready: bool) -> int:
    # The exit code is the same whether or not the line can be written.
    with suppress(OSError):
        os.write(1, line.encode(errors="backslashreplace") + b"\n")
    return int(not is_ready)


def check(host: str, port: int) -> str:
    """Return the status of the whole server, by its name in grpc.health.v1.

    Raises:
        OSError: no server listens at this address, or it does not answer this call.
    """
    with socket.create_connection((host, port), TIMEOUT) as connection:
        # The numeric address is a valid authority, which not every name is.
        peer, port = connection.getpeername()[:2]
        connection.sendall(_request(address(peer.partition("%")[0], port)))
        with connection.makefile("rb") as answer:
            message = _message(answer)
    if message not in _STATUSES:
        raise OSError(f"expected an answer of grpc.health.v1, got {message!r}")
    return _STATUSES[message]


def _request(authority: str) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    # Header fields are literals without indexing, the simplest form of HPACK (RFC 7541, 6.2.2).
    headers = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, _STREAM, headers)
        + _frame(_DATA, _END_STREAM, _STREAM, _NO_FIELDS)
    )


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("ascii")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def _message(answer: BinaryIO) -> bytes:
    """Return the content of DATA frames until the stream ends; headers and trailers are skipped."""
    message = b""
    while len(head := answer.read(9)) == 9:
        payload = answer.read(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind == _DATA:
            message += payload
        ended = kind in (_DATA, _HEADERS) and flags & _END_STREAM
        if kind == _GOAWAY or (stream == _STREAM and (ended or kind == _RST_STREAM)):
            break
    return message


if __name__ == "__main__":
    sys.exit(main())
