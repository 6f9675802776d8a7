"""The health of a server and its models, by grpc.health.v1.

Nothing here needs the messages of the server's other services: `sigmax health` is to start fast.
"""

from typing import Final

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from sigmax._errors import NOT_CONNECTED, TLS_FAILED, DeadlineExceeded, SigmaxError, Unavailable
from sigmax._method import Method

# The methods take a message whose field 1 is a string, and return messages whose field 1 is an
# enum. Protobuf's well-known wrappers have the same bytes. Stubs of our own for that service could
# clash with a caller's.
CHECK: Final = Method("/grpc.health.v1.Health/Check", StringValue, Int32Value)
WATCH: Final = Method("/grpc.health.v1.Health/Watch", StringValue, Int32Value)

SERVING: Final = 1
UNSEEN: Final = "no answer"  # of a watch that has not told a status yet
_STATUSES: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def status_name(status: int) -> str:
    """Return the name of a health status, such as "NOT_SERVING"."""
    return _STATUSES.get(status, str(status))


def watch_ended() -> Unavailable:
    """Make the error for a watch that the server has ended, as a stopping server does."""
    return Unavailable("the server ended the watch of its health", code="UNAVAILABLE")


def not_ready(service: str, timeout: float, seen: str, last: SigmaxError) -> SigmaxError:
    """Make the error that ends a wait: `last`, unless `last` only says that time has run out."""
    if not isinstance(last, DeadlineExceeded | Unavailable) or last.reason == TLS_FAILED:
        return last
    if seen == UNSEEN and last.reason == NOT_CONNECTED:
        seen = str(last)
    what = f"model '{service}'" if service else "the server"
    return DeadlineExceeded(
        f"{what} was not ready within {timeout:g} s; last seen: {seen}", code="DEADLINE_EXCEEDED"
    )
