"""The channel options of both clients, and what they say of a server's health."""

from collections.abc import Sequence
from typing import Final

from sigmax._address import Target
from sigmax._errors import Cancelled, DeadlineExceeded, SigmaxError, Unavailable

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


def options(target: Target) -> Sequence[tuple[str, int]]:
    """Return the options of a channel to this server."""
    if target.is_local:
        return (*_OPTIONS, ("grpc.enable_http_proxy", 0))
    return _OPTIONS


SERVING: Final = 1  # a status of grpc.health.v1
_STATUSES: Final = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def closed() -> Cancelled:
    """Make the error for a call of a client that is closed."""
    return Cancelled("the client is closed: make another", code="CANCELLED")


def status_name(status: int) -> str:
    """Return the name of a health status, such as "NOT_SERVING"."""
    return _STATUSES.get(status, str(status))


def watch_ended() -> Unavailable:
    """Make the error for a watch that the server has ended, as a stopping server does."""
    return Unavailable("the server ended the watch of its health", code="UNAVAILABLE")


def not_ready(service: str, timeout: float, seen: str, last: SigmaxError) -> SigmaxError:
    """Make the error that ends a wait: `last`, unless `last` only says that time has run out."""
    if not isinstance(last, DeadlineExceeded | Unavailable):
        return last
    what = f"model '{service}'" if service else "the server"
    return DeadlineExceeded(
        f"{what} was not ready within {timeout:g} s; last seen: {seen}", code="DEADLINE_EXCEEDED"
    )
