"""The channel options of both clients, and the health check, whose service is not Sigmax's own."""

from collections.abc import Sequence
from typing import Final

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from sigmax._errors import DeadlineExceeded, SigmaxError, Unavailable

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


def options(address: str) -> Sequence[tuple[str, int | str]]:
    """Return the options of a channel to this address."""
    if address.startswith("unix:"):
        # gRPC would send the socket's path, which is no valid authority in HTTP.
        return (*_OPTIONS, ("grpc.default_authority", "localhost"))
    return _OPTIONS


# grpc.health.v1.Health/Watch takes a message whose field 1 is a string, and returns messages whose
# field 1 is an enum. Protobuf's well-known wrappers have the same bytes. Stubs of our own for
# that service could clash with a caller's.
WATCH_METHOD: Final = "/grpc.health.v1.Health/Watch"
WATCH_REQUEST: Final = StringValue.SerializeToString
WATCH_RESPONSE: Final = Int32Value.FromString
SERVING: Final = 1
_STATUSES: Final = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def watch_request(service: str) -> StringValue:
    """Make a request for the health of a service, which is a model's name; "": the server."""
    return StringValue(value=service)


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
