"""From a failed call to the error that is raised for it."""

from collections.abc import Iterable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from sigmax._errors import (
    AccessDenied,
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotSupported,
    Overloaded,
    ServerFault,
    SigmaxError,
    Unavailable,
)

_CLASSES: dict[str, type[SigmaxError]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "OUT_OF_RANGE": InvalidInput,
    "NOT_FOUND": ModelNotFound,
    "FAILED_PRECONDITION": NotSupported,
    "UNIMPLEMENTED": NotSupported,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAVAILABLE": Unavailable,
    "CANCELLED": Cancelled,
    "UNAUTHENTICATED": AccessDenied,
    "PERMISSION_DENIED": AccessDenied,
    "INTERNAL": ServerFault,
    "UNKNOWN": ServerFault,
    "DATA_LOSS": ServerFault,
}
_NAMES: dict[int, str] = {status.value[0]: status.name for status in grpc.StatusCode}
_Detail = TypeVar("_Detail", bound=Message)


def from_rpc_error(failure: grpc.RpcError) -> SigmaxError:
    """The error for a call that gRPC, of either kind, has ended with a status."""
    code = failure.code().name
    message = failure.details() or code
    trailers = failure.trailing_metadata() or ()
    return from_status(code, message, _details(trailers))


def from_stream_error(code: int, message: str, reason: str) -> SigmaxError:
    """The error for one request of a stream that goes on."""
    name = _NAMES.get(code, "UNKNOWN")
    return _class_for(name, reason)(message, code=name, reason=reason)


def from_status(code: str, message: str, details: Status) -> SigmaxError:
    """The error for a status by its canonical name, with google.rpc details where it has any."""
    info = _first(details, ErrorInfo())
    retry = _first(details, RetryInfo())
    violations = _first(details, BadRequest()).field_violations
    return _class_for(code, info.reason)(
        message,
        code=code,
        reason=info.reason,
        fields={violation.field: violation.description for violation in violations},
        retry_after=(
            retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None
        ),
    )


def _class_for(code: str, reason: str) -> type[SigmaxError]:
    # A message over the limit shares its status with a full queue, but waiting does not help.
    if reason == "MESSAGE_TOO_LARGE":
        return InvalidInput
    return _CLASSES.get(code, SigmaxError)


def _details(trailers: Iterable[Any]) -> Status:
    """What `grpc-status-details-bin` holds; nothing where it is absent or no Status."""
    for key, value in trailers:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return Status()


def _first(details: Status, detail: _Detail) -> _Detail:
    """Fill `detail` from the first of its type, and return it; empty where there is none."""
    for candidate in details.details:
        if candidate.Is(detail.DESCRIPTOR):
            candidate.Unpack(detail)
            break
    return detail
