"""The address of a server: how people write it, and the target that gRPC takes."""

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from sigmax._errors import InvalidAddress

Address: TypeAlias = str | Sequence[str]

DEFAULT_PORT: Final = 8001
_EXPECTED: Final = 'expected "HOST", "HOST:PORT" or "unix:PATH"'
# Targets in gRPC's own notation are passed on as they are.
_GRPC_SCHEMES: Final = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds")
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):(.*)", re.IGNORECASE | re.DOTALL)
_HOST: Final = re.compile(r"[^\s\x00-\x20/\\?#@:,\[\]\"'<>{}|^`]+")
# gRPC takes the first of these that is set, in these letters only.
_PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")


@dataclass(frozen=True, slots=True)
class Target:
    """A server as gRPC takes it."""

    name: str
    """Target for a channel, such as "localhost:8001" or "unix:/run/sigmax.sock"."""
    is_local: bool
    """Whether the server is on this machine, by the address alone; no proxy leads there."""
    servers: tuple[str, ...] = ()
    """Addresses of the servers where several are given, each with its port; empty otherwise."""
    is_name: bool = False
    """Whether a name is looked up that may have several addresses."""

    @property
    def proxy(self) -> str:
        """Proxy that gRPC would use, as a clause of an error; empty where gRPC uses none."""
        if self.is_local:
            return ""
        name = next((name for name in _PROXIES if os.environ.get(name)), "")
        return name and f"the variable {name} names a proxy, {_host_of(os.environ[name])}"


def parse(address: Address) -> Target:
    """Read an address, or several.

    Args:
        address: "HOST", "HOST:PORT", where HOST may be an IPv6 address, with a port in brackets;
            "unix:PATH"; or a target in gRPC's notation, such as "dns:///name:8001". Without a port
            the port is 8001. Several IP addresses are a sequence, or one text with commas.

    Raises:
        InvalidAddress: The address is none of these; the message says what was expected.
    """
    if isinstance(address, Sequence) and not isinstance(address, str | bytes):
        return parse(address[0]) if len(address) == 1 else _several(address, address)
    if not isinstance(address, str) or not address.strip():
        raise _invalid(address)
    scheme = _SCHEME.fullmatch(address)
    if scheme and scheme[1].lower() in _GRPC_SCHEMES and not _is_port(scheme[2]):
        return _in_grpc_notation(address, scheme[1].lower(), scheme[2])
    if "://" in address:
        raise _invalid(address, f"without '{address.partition('://')[0]}://'")
    if "," in address:
        return _several(address, address.split(","))
    host, port = _split(address)
    return Target(_joined(host, port), _is_loopback(host), is_name=_ip(host) is None)


def _in_grpc_notation(address: str, scheme: str, rest: str) -> Target:
    if not rest.strip("/"):
        raise _invalid(address)
    if scheme.startswith("unix") or scheme == "vsock":
        return Target(address, is_local=True)
    if scheme == "xds":
        return Target(address, is_local=False)
    authority, slash, path = rest.rpartition("/")
    if scheme == "dns":
        host, port = _split(path, address)
        name = f"dns:{authority}{slash}{_joined(host, port)}"
        is_name = _ip(host) is None
        # A DNS server that is named may say what it likes, also of localhost.
        is_asked = is_name and authority.strip("/") != ""
        return Target(name, _is_loopback(host) and not is_asked, is_name=is_name)
    servers = path.split(",")
    if len(servers) > 1:
        return _several(address, servers)
    host, port = _split(path, address)
    return Target(f"{scheme}:{authority}{slash}{_joined(host, port)}", _is_loopback(host))


def _several(address: Address, servers: Iterable[object]) -> Target:
    """Read the addresses of several servers, as the list that gRPC takes."""
    pairs = [
        _split(server.strip() if isinstance(server, str) else server, address) for server in servers
    ]
    numbers = [_ip(host) for host, _ in pairs]
    families = {number.version for number in numbers if number is not None}
    if None in numbers or len(families) != 1:
        raise _invalid(
            address,
            "for one server, and for several IP addresses of one family, such as "
            "'10.0.0.1:8001,10.0.0.2:8001'. gRPC looks up one name only: for several, use one "
            "that has all addresses",
        )
    joined = tuple(_joined(*pair) for pair in pairs)
    name = f"ipv{families.pop()}:{','.join(joined)}"
    return Target(name, all(_is_loopback(host) for host, _ in pairs), servers=joined)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_of(proxy: str) -> str:
    """Return the host and port of a proxy, without the password that may be before them."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"//{proxy}")
        return parts.netloc.rpartition("@")[2]
    except ValueError:
        return "no URL"


def _split(server: object, address: Address | None = None) -> tuple[str, int]:
    """Split the address of one server into its host, without brackets, and its port.

    Args:
        server: Address without a scheme.
        address: The whole address, for the error; None where that is `server`.
    """
    whole = server if address is None else address
    if not isinstance(server, str) or not server:
        raise _invalid(whole)
    bare, bracket, after = server.removeprefix("[").partition("]")
    if server.startswith("["):
        if not bracket or _ip(bare) is None or (after and not after.startswith(":")):
            raise _invalid(whole, "with an IPv6 address in the brackets")
        return bare, _port(whole, after[1:]) if after else DEFAULT_PORT
    if server.count(":") > 1:
        if _ip(server) is None:
            raise _invalid(whole, "with an IPv6 address in brackets before the port")
        return server, DEFAULT_PORT
    host, colon, port = server.partition(":")
    if not _HOST.fullmatch(host):
        raise _invalid(whole)
    return host, _port(whole, port) if colon else DEFAULT_PORT


def _port(address: object, text: str) -> int:
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
