"""What both clients open a channel with, and the one RPC of a service that is not ours."""

from collections.abc import Sequence
from typing import Final

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from sigmax._errors import DeadlineExceeded, SigmaxError, Unavailable

_OPTIONS: Final = (
    # The server has the limit; gRPC's own of 4 MiB would cut answers it allows.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A peer that vanished is noticed while a call waits for it.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Reconnect as fast as calls are retried; gRPC's own 1 to 120 seconds would outwait them.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


def options(address: str) -> Sequence[tuple[str, int | str]]:
    """The options of a channel to this address."""
    if address.startswith("unix:"):
        # gRPC would send the path, which is no authority that HTTP knows.
        return (*_OPTIONS, ("grpc.default_authority", "localhost"))
    return _OPTIONS


# grpc.health.v1.Health/Watch takes a message whose field 1 is a string and gives messages whose
# field 1 is an enum. The well-known wrappers have the same bytes, so no stubs of another
# package are registered that could clash with a caller's own.
WATCH_METHOD: Final = "/grpc.health.v1.Health/Watch"
WATCH_REQUEST: Final = StringValue.SerializeToString
WATCH_RESPONSE: Final = Int32Value.FromString
SERVING: Final = 1
_STATUSES: Final = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def watch_request(service: str) -> StringValue:
    """Ask for the health of a service; "" is the whole server."""
    return StringValue(value=service)


def status_name(status: int) -> str:
    """Such as "NOT_SERVING"."""
    return _STATUSES.get(status, str(status))


def watch_ended() -> Unavailable:
    """The error for a watch that the server has closed, as it does when it shuts down."""
    return Unavailable("the server ended the watch of its health", code="UNAVAILABLE")


def not_ready(service: str, timeout: float, seen: str, last: SigmaxError) -> SigmaxError:
    """The error that ends a wait: `last`, unless it only means that time has run out."""
    if not isinstance(last, DeadlineExceeded | Unavailable):
        return last
    what = f"model '{service}'" if service else "the server"
    return DeadlineExceeded(
        f"{what} was not ready within {timeout:g} s; last seen: {seen}", code="DEADLINE_EXCEEDED"
    )
