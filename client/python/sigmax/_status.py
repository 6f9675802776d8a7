"""Conversion of gRPC statuses to errors."""

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
    """Make the error for a call of grpc or grpc.aio that ended with a status."""
    code = failure.code().name
    message = failure.details() or code
    trailers = failure.trailing_metadata() or ()
    return from_status(code, message, _details(trailers))


def from_stream_error(code: int, message: str, reason: str) -> SigmaxError:
    """Make the error for one request of a stream; the stream itself goes on."""
    name = _NAMES.get(code, "UNKNOWN")
    return _class_for(name, reason)(message, code=name, reason=reason)


def from_status(code: str, message: str, details: Status) -> SigmaxError:
    """Make the error for a status.

    Args:
        code: Name of the status, such as "INVALID_ARGUMENT".
        message: Text of the status.
        details: Details of google.rpc; empty where the status has none.
    """
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
    # A message over the size limit has the status of a full queue, but a retry does not help.
    if reason == "MESSAGE_TOO_LARGE":
        return InvalidInput
    return _CLASSES.get(code, SigmaxError)


def _details(trailers: Iterable[Any]) -> Status:
    """Return the content of `grpc-status-details-bin`; empty where it is absent or malformed."""
    for key, value in trailers:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return Status()


def _first(details: Status, detail: _Detail) -> _Detail:
    """Fill `detail` from the first detail of its type, and return it; empty where none is there."""
    for candidate in details.details:
        if candidate.Is(detail.DESCRIPTOR):
            candidate.Unpack(detail)
            break
    return detail
