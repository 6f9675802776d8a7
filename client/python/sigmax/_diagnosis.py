"""What keeps a connection from being made, and what to do, by the text that gRPC says it with.

gRPC has one code, UNAVAILABLE, for all of them. A text that is not known here stays as it is.
"""

from typing import Final

from sigmax._address import Target
from sigmax._errors import NOT_CONNECTED, TLS_FAILED

# How gRPC begins to say that no connection could be made.
_NOT_CONNECTED: Final = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "errors resolving ",
    "DNS resolution failed",
)
# Causes that no retry removes: a part of gRPC's text, and what to do.
_PERMANENT: Final = {
    "CERTIFICATE_VERIFY_FAILED: certificate has expired": (
        "the server's certificate has expired: the server needs a new one"
    ),
    "CERTIFICATE_VERIFY_FAILED: certificate is not yet valid": (
        "the server's certificate is not valid yet: compare the clocks of both machines"
    ),
    "CERTIFICATE_VERIFY_FAILED": (
        "the server's certificate is from an authority that is not trusted here: name the file of "
        "its CA (tls=, or --tls-ca)"
    ),
    "Hostname Verification Check failed": (
        "the server's certificate is for another name: use a name that it has as the address, or "
        "say the name (sigmax.Tls(server_name=...), or --tls-server-name)"
    ),
    "WRONG_VERSION_NUMBER": (
        "the server does not speak TLS at this port: leave TLS out, or use another port"
    ),
    "Failed to create security handshaker": "gRPC cannot use the files of TLS: use others",
    "missing selected ALPN": (
        "the server speaks TLS, and not HTTP/2: it is no gRPC server, or a proxy that is not set "
        "up for gRPC"
    ),
    # An alert after the handshake: TLS 1.3 lets the server judge the client's certificate then.
    "Unwrap failed": (
        "the server wants a certificate of the client that it trusts "
        "(sigmax.Tls(certificate=..., key=...), or --tls-certificate and --tls-key)"
    ),
}
# The other side has ended the connection, and does not say why.
_ENDED: Final = ("Socket closed", "Connection reset by peer", "Failed parsing HTTP/2")
_WANTS_TLS: Final = "the server may want TLS: tls=, or --tls"
_WANTS_CERTIFICATE: Final = (
    "the server may want a certificate of the client: sigmax.Tls(certificate=..., key=...), or "
    "--tls-certificate and --tls-key"
)


def diagnose(message: str, target: Target, is_plain: bool) -> tuple[str, str]:
    """Return a status' message with the likely cause, and the reason of its error.

    Args:
        message: Text of a status UNAVAILABLE or DEADLINE_EXCEEDED without details.
        target: The server that was called. A proxy on the way to it is named.
        is_plain: Whether the channel is without TLS.

    Returns:
        The message; and NOT_CONNECTED or TLS_FAILED, or nothing where a connection was there.
    """
    is_connected = not message.startswith(_NOT_CONNECTED)
    reason = "" if is_connected else NOT_CONNECTED
    if target.proxy:
        message = f"{message} ({target.proxy}; no_proxy lists hosts without one)"
    if is_connected:
        return message, reason
    for text, advice in _PERMANENT.items():
        if text in message:
            return f"{advice} ({message})", TLS_FAILED
    if message.endswith("backend unhealthy"):
        return f"{message} (no server says by grpc.health.v1 that it is ready)", reason
    if any(text in message for text in _ENDED) and not target.proxy:
        return f"{message} ({_WANTS_TLS if is_plain else _WANTS_CERTIFICATE})", reason
    return message, reason
