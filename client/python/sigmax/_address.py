"""The address of a server: how people write it, and the target that gRPC takes."""

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final

from sigmax._errors import InvalidAddress

DEFAULT_PORT: Final = 8001
_EXPECTED: Final = 'expected "HOST", "HOST:PORT" or "unix:PATH"'
# Targets in gRPC's own notation are passed on as they are.
_GRPC_SCHEMES: Final = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds")
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):(.*)", re.IGNORECASE | re.DOTALL)
_HOST: Final = re.compile(r"[^\s\x00-\x20/\\?#@:,\[\]\"'<>{}|^`]+")
_PORT: Final = re.compile(r":[0-9]+$")
# gRPC takes the first of these that is set, in these letters only.
_PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")


@dataclass(frozen=True, slots=True)
class Target:
    """A server as gRPC takes it."""

    name: str
    """Target for a channel, such as "localhost:8001" or "unix:/run/sigmax.sock"."""
    is_local: bool
    """Whether the server is on this machine, by the address alone; no proxy leads there."""

    @property
    def proxy(self) -> str:
        """Name of the environment variable whose proxy gRPC would use; empty where it uses none."""
        if self.is_local:
            return ""
        return next((name for name in _PROXIES if os.environ.get(name)), "")


def parse(address: str) -> Target:
    """Read an address.

    Args:
        address: "HOST", "HOST:PORT", where HOST may be an IPv6 address, with a port in brackets;
            "unix:PATH"; or a target in gRPC's notation, such as "dns:///name:8001". Without a port
            the port is 8001.

    Raises:
        InvalidAddress: The address is none of these; the message says what was expected.
    """
    if not isinstance(address, str) or not address.strip():
        raise _invalid(address)
    scheme = _SCHEME.fullmatch(address)
    if scheme and scheme[1].lower() in _GRPC_SCHEMES and not _is_port(scheme[2]):
        return _in_grpc_notation(address, scheme[1].lower(), scheme[2])
    if "://" in address:
        raise _invalid(address, f"without '{address.partition('://')[0]}://'")
    host, port = _split(address)
    return Target(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", _is_loopback(host))


def _in_grpc_notation(address: str, scheme: str, rest: str) -> Target:
    if not rest.strip("/"):
        raise _invalid(address)
    if scheme.startswith("unix") or scheme == "vsock":
        return Target(address, is_local=True)
    addresses = rest.split("/")[-1].split(",")
    hosts = [_PORT.sub("", each).strip("[]") for each in addresses]
    return Target(address, all(map(_is_loopback, hosts)))


def _split(address: str) -> tuple[str, int]:
    """Split an address without a scheme into its host, without brackets, and its port."""
    bare, bracket, after = address.removeprefix("[").partition("]")
    if address.startswith("["):
        if not bracket or _ip(bare) is None or (after and not after.startswith(":")):
            raise _invalid(address, "with an IPv6 address in the brackets")
        return bare, _port(address, after[1:]) if after else DEFAULT_PORT
    if address.count(":") > 1:
        if _ip(address) is None:
            raise _invalid(address, "with an IPv6 address in brackets before the port")
        return address, DEFAULT_PORT
    host, colon, port = address.partition(":")
    if not _HOST.fullmatch(host):
        raise _invalid(address)
    return host, _port(address, port) if colon else DEFAULT_PORT


def _port(address: str, text: str) -> int:
    if not _is_port(text) or not 0 < int(text) < 2**16:
        raise _invalid(address, "with a port from 1 to 65535")
    return int(text)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 20


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _ip(host)
    if address is None:
        return host.lower().rstrip(".").rpartition(".")[2] == "localhost"
    inner = getattr(address, "ipv4_mapped", None) or address
    return bool(inner.is_loopback or inner.is_unspecified)


def _invalid(address: object, how: str = "") -> InvalidAddress:
    wanted = f"{_EXPECTED} {how}" if how else _EXPECTED
    message = f"address: {wanted}; got {address!r}"
    return InvalidAddress(
        message, code="INVALID_ARGUMENT", reason="BAD_ADDRESS", fields={"address": message}
    )
