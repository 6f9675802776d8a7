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

from sigmax._channel import Connection
from sigmax._diagnosis import diagnose
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
# Reasons that mean another class than their code: the limits that waiting does not lift have the
# code of a full queue, and over the Open Inference Protocol a full queue has that of a lost server.
_CLASSES_OF_REASONS: dict[str, type[SigmaxError]] = {
    "MESSAGE_TOO_LARGE": InvalidInput,
    "METADATA_TOO_LARGE": InvalidInput,
    "QUEUE_FULL": Overloaded,
    "REPLY_TOO_LARGE": InvalidInput,
    "RUN_TOO_LARGE": InvalidInput,
    "TOO_MANY_REGIONS": InvalidInput,
    "TOO_MANY_STREAMS": InvalidInput,
}
_NAMES: dict[int, str] = {
    status.value[0]: status.name for status in grpc.StatusCode if status is not grpc.StatusCode.OK
}
_Detail = TypeVar("_Detail", bound=Message)


def from_rpc_error(failure: grpc.RpcError, connection: Connection) -> SigmaxError:
    """Make the error for a call of grpc or grpc.aio that ended with a status.

    Args:
        failure: What grpc has raised.
        connection: Way to the server. The likely cause is named where there was no answer.
    """
    code = failure.code().name
    message = failure.details() or code
    trailers = tuple(failure.trailing_metadata() or ())
    details = _details(trailers)
    if code == "UNAUTHENTICATED" and not connection.metadata.has_identity:
        message += " (the client has sent no token: give token=, or --token-file)"
    if not details.details and code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        message, reason = diagnose(message, connection.target, connection.credentials is None)
        return _CLASSES[code](message, code=code, reason=reason)
    return from_status(code, message, details, is_final=_is_final(trailers))


def from_stream_error(code: int, message: str, reason: str) -> SigmaxError:
    """Make the error for one request of a stream; the stream itself goes on."""
    name = _NAMES.get(code, "UNKNOWN")
    return _class_for(name, reason)(message, code=name, reason=reason)


def from_status(code: str, message: str, details: Status, *, is_final: bool = False) -> SigmaxError:
    """Make the error for a status.

    Args:
        code: Name of the status, such as "INVALID_ARGUMENT".
        message: Text of the status.
        details: Details of google.rpc; empty where the status has none.
        is_final: Whether another try would fail, too, as the server says.
    """
    info = _first(details, ErrorInfo())
    violations = _first(details, BadRequest()).field_violations
    return _class_for(code, info.reason)(
        message,
        code=code,
        reason=info.reason,
        fields={violation.field: violation.description for violation in violations},
        retry_after=_retry_after(_first(details, RetryInfo())),
        is_final=is_final,
    )


def _is_final(trailers: Iterable[Any]) -> bool:
    """Return whether the server asks for no retry: by a pushback below 0 (gRFC A6)."""
    pushbacks = (value for key, value in trailers if key == "grpc-retry-pushback-ms")
    return any(str(value).startswith("-") for value in pushbacks)


def _retry_after(retry: RetryInfo) -> float | None:
    """Return the seconds that the server names; None where it names none, or a time in the past."""
    if not retry.HasField("retry_delay"):
        return None
    seconds: float = retry.retry_delay.ToNanoseconds() / 1e9
    return seconds if seconds >= 0 else None


def _class_for(code: str, reason: str) -> type[SigmaxError]:
    return _CLASSES_OF_REASONS.get(reason) or _CLASSES.get(code, SigmaxError)


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
    """Fill `detail` from the first detail of its type, and return it.

    The detail is empty where none of its type is there, or the first is malformed.
    """
    for candidate in details.details:
        if candidate.Is(detail.DESCRIPTOR):
            try:
                candidate.Unpack(detail)
            except DecodeError:
                detail.Clear()
            break
    return detail
