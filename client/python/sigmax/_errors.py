"""What can go wrong, as one small tree.

SigmaxError              anything below; also what fits nowhere else
    InvalidInput         the request itself is wrong: shape, dtype, values, names, size
    ModelNotFound        no such model, or no such version of it
    NotSupported         the model or the server cannot do this at all
    Overloaded           the server sheds load; `retry_after` says when to come back
    DeadlineExceeded     no answer within the timeout
    Unavailable          nobody answers there, or the model is still being loaded
    Cancelled            the call was cancelled
    AccessDenied         credentials are missing, wrong, or not enough
    ServerFault          the server failed; its log says more
"""

# ruff: noqa: N818 (the names say what happened, as in `except ModelNotFound`)

from collections.abc import Mapping


class SigmaxError(Exception):
    """A call that has failed. Found before anything was sent or told by the server: no difference.

    Attributes:
        code: The gRPC status by its canonical name, such as "INVALID_ARGUMENT".
        reason: For programs, such as "SHAPE_MISMATCH"; empty where none was given.
        fields: What is wrong with which field of the request: name to description.
        retry_after: Seconds to wait before another try; None where the server named none.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.fields = dict(fields or {})
        self.retry_after = retry_after


class InvalidInput(SigmaxError):
    """The request is wrong and will be wrong again: its message says what was expected."""

    @classmethod
    def in_field(cls, field: str, reason: str, message: str) -> "InvalidInput":
        """The error for one field of a request that is not worth sending."""
        return cls(message, code="INVALID_ARGUMENT", reason=reason, fields={field: message})


class ModelNotFound(SigmaxError):
    """The server knows no such model, or no such version of it."""


class NotSupported(SigmaxError):
    """This cannot be done here, such as classifying with a model that declares no task."""


class Overloaded(SigmaxError):
    """The server has more work than it takes; try again after `retry_after` seconds."""


class DeadlineExceeded(SigmaxError):
    """The timeout passed without an answer."""


class Unavailable(SigmaxError):
    """The server cannot be reached, shuts down, or has not loaded the model yet."""


class Cancelled(SigmaxError):
    """The call was cancelled before it was answered."""


class AccessDenied(SigmaxError):
    """Credentials are missing, wrong, or do not allow this."""


class ServerFault(SigmaxError):
    """The server failed through no fault of the request."""
