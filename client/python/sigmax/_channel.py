"""The channel of both clients: its options, its security, and what is sent with every call."""

import json
from dataclasses import dataclass
from typing import Any, Final

import grpc

from sigmax import _address, _credentials, _metadata, _tls
from sigmax._address import Address, Target
from sigmax._errors import Cancelled, InvalidCredentials
from sigmax._metadata import CallMetadata, Metadata
from sigmax._tls import File, Tls
from sigmax._token import AsyncTokenSource, Token

_OPTIONS: Final = (
    # The server limits message sizes; gRPC's own limit of 4 MiB would refuse answers it allows.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Pings find out that a server has vanished while a call waits for its answer.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Connections are retried as often as calls are; gRPC's own pauses, 1 to 120 seconds, are
    # longer than a call's retries.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, slots=True, repr=False)
class Connection:
    """All that a client knows of the way to its server.

    Attributes:
        target: The server, or the servers.
        credentials: TLS of the channel; None for plaintext.
        options: Options of the channel.
        metadata: What is sent with each call.
    """

    target: Target
    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, int | str], ...]
    metadata: CallMetadata


def connection(
    address: Address,
    *,
    tls: bool | File | Tls | None = None,
    token: AsyncTokenSource | None = None,
    metadata: Metadata | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    health_checks: bool | None = None,
    is_async: bool = False,
) -> Connection:
    """Check the arguments of a client, and read the files that they name.

    Raises:
        InvalidAddress: The address cannot be one.
        InvalidCredentials: The arguments cannot be used so; see `Client`.
        InvalidInput: The metadata are none.
    """
    target = _address.parse(address)
    security = _tls.read(tls)
    _check_security(target, security, credentials)
    sent = _call_metadata(metadata, token, is_async)
    is_plain = security is None and (credentials is None or _is_insecure(credentials))
    if sent.has_identity and is_plain and not target.is_local:
        raise InvalidCredentials.in_argument(
            "token",
            f"expected TLS to {target.name}, for a token in plaintext can be read on the way: "
            "give tls=True or the file of a CA (of the command: --tls or --tls-ca); only to this "
            "machine is a token sent without",
        )
    options = _options(target, security, health_checks)
    found = _credentials.read(security) if security is not None else credentials
    return Connection(target, found, options, sent)


def _check_security(
    target: Target, tls: Tls | None, credentials: grpc.ChannelCredentials | None
) -> None:
    if credentials is not None and tls is not None:
        raise InvalidCredentials.in_argument("credentials", "expected these or tls=, got both")
    if credentials is not None and not isinstance(credentials, grpc.ChannelCredentials):
        raise InvalidCredentials.in_argument(
            "credentials", f"expected grpc.ChannelCredentials, got {type(credentials).__name__}"
        )
    if tls is not None and target.servers and not tls.server_name:
        raise InvalidCredentials.in_argument(
            "tls",
            "expected sigmax.Tls(server_name=...) beside several addresses (of the command: "
            "--tls-server-name): the name that all their certificates have",
        )


def _call_metadata(
    metadata: Metadata | None, token: AsyncTokenSource | None, is_async: bool
) -> CallMetadata:
    pairs = _metadata.read(metadata)
    source = None if token is None else Token(token, is_async=is_async)
    if source is not None and any(key == _metadata.AUTHORIZATION for key, _ in pairs):
        raise InvalidCredentials.in_argument(
            "metadata", "expected no 'authorization' beside token=, which is sent as that"
        )
    return CallMetadata(pairs, source)


def open_channel(way: Connection) -> grpc.Channel:
    """Open a channel for threads. It connects when a call first needs it."""
    if way.credentials is None:
        return grpc.insecure_channel(way.target.name, way.options)
    return grpc.secure_channel(way.target.name, way.credentials, way.options)


def _is_insecure(credentials: grpc.ChannelCredentials) -> bool:
    """Return whether these are grpc.experimental.insecure_channel_credentials()."""
    return type(getattr(credentials, "_credentials", None)).__name__ == "InsecureChannelCredentials"


def _options(
    target: Target, tls: Tls | None, health_checks: bool | None
) -> tuple[tuple[str, int | str], ...]:
    options: list[tuple[str, int | str]] = list(_OPTIONS)
    if target.is_local:
        options.append(("grpc.enable_http_proxy", 0))
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
        options.append(("grpc.default_authority", tls.server_name))
    elif target.servers:
        # gRPC would name the whole list as the authority, which is none.
        options.append(("grpc.default_authority", target.servers[0]))
    checks = bool(target.servers) if health_checks is None else health_checks
    # gRPC's default policy takes the first address that answers, and knows no health checks.
    # Names of this machine have two addresses, of IPv4 and IPv6, and one server.
    if target.servers or checks or (target.is_name and not target.is_local):
        config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
        if checks:
            config["healthCheckConfig"] = {"serviceName": ""}
        options.append(("grpc.service_config", json.dumps(config)))
    return tuple(options)


def closed() -> Cancelled:
    """Make the error for a call of a client that is closed."""
    return Cancelled("the client is closed: make another", code="CANCELLED")
