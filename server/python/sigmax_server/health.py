"""The health check of a container: `python -m sigmax_server.health`.

The check asks /readyz, because the HTTP port asks no client for a certificate or a token.
"""

import http.client
import os
import sys
from contextlib import suppress
from typing import Any

from sigmax_server.address import address
from sigmax_server.config import SETTINGS, ServerConfig
from sigmax_server.setting import ConfigError

TIMEOUT = 3.0  # most seconds of each step: connecting, and each read and write


def main() -> int:
    """Check the server whose address the environment's variables give, and print its state.

    Returns:
        The exit code: 0 where the server is ready, otherwise 1.
    """
    try:
        host = _setting("http_host") or _setting("host")
        port, tls = _setting("http_port"), _setting("http_tls")
    except ConfigError as error:
        return _end(str(error), False)
    try:
        state = check(host, port, tls)
    except (OSError, http.client.HTTPException) as error:
        state = str(error) or type(error).__name__
    return _end(f"{address(host, port)}: {state}", state == "ready")


def _setting(name: str) -> Any:
    [setting] = (each for each in SETTINGS if each.name == name)
    text = os.environ.get(setting.variable)
    return setting.parse(text) if text else getattr(ServerConfig, name)


def _end(line: str, is_ready: bool) -> int:
    # The exit code is the same whether or not the line can be written.
    with suppress(OSError):
        os.write(1, line.encode(errors="backslashreplace") + b"\n")
    return int(not is_ready)


def check(host: str, port: int, tls: bool) -> str:
    """Return what the server says of itself, "ready" or "not ready".

    Raises:
        OSError: no server listens at this address, or its answer is another.
        HTTPException: the answer is not HTTP.
    """
    connection = (
        _over_tls(host, port) if tls else http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    )
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read(100).decode(errors="replace").strip()
    finally:
        connection.close()
    if (answer.status, text) not in [(200, "ready"), (503, "not ready")]:
        raise OSError(f"expected ready or not ready, got {answer.status} {text!r}")
    return text


def _over_tls(host: str, port: int) -> http.client.HTTPConnection:
    import ssl  # only here, because it takes time

    # The certificate names the server as its clients know it, and not this address of the same
    # machine. The check sends no secret, and so trusts whoever listens here.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, context=context)


if __name__ == "__main__":
    sys.exit(main())
