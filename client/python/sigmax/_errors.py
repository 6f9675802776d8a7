"""The errors of a call, and what each one means.

SigmaxError              base class of all errors below; itself raised for any other status
    InvalidAddress       the address of the server is none; told when a client is made
    InvalidCredentials   TLS's files or the token cannot be used, or would be sent in plaintext
    InvalidInput         the request itself is wrong: shape, dtype, values, names, size
    ModelNotFound        the server has no such model, or no such version of it
    NotSupported         the model or the server cannot do this at all
    Overloaded           the server has too much work; `retry_after` says when to retry
    DeadlineExceeded     no answer came within the timeout
    Unavailable          the server cannot be reached, or the model is still being loaded
    Cancelled            the call was cancelled, or the client is closed
    AccessDenied         credentials are missing, wrong, or not sufficient
    ServerFault          the server failed; the server's log says more
"""

# ruff: noqa: N818 (a name says what happened, as in `except ModelNotFound`)

from collections.abc import Mapping
from typing import Final

NOT_CONNECTED: Final = "NOT_CONNECTED"
TLS_FAILED: Final = "TLS_FAILED"


class SigmaxError(Exception):
    """A failed call. Errors that the SDK finds before sending look the same as the server's.

    Attributes:
        code: Name of the gRPC status, such as "INVALID_ARGUMENT".
        reason: Reason for programs, such as "SHAPE_MISMATCH"; empty where none was given.
        fields: Fields of the request that are wrong, each name with a description; may be empty.
        retry_after: Seconds to wait before a retry; None where the server named no time.
        is_final: Whether the server says that another try of the same call fails, too, though the
            code is one of those that pass. The SDK does not retry such an error.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        is_final: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.fields = dict(fields or {})
        self.retry_after = retry_after
        self.is_final = is_final


class InvalidInput(SigmaxError):
    """The request is wrong, and a retry fails, too. The message says what was expected.

    A request over one of the server's limits is wrong, too: the reasons "MESSAGE_TOO_LARGE",
    "METADATA_TOO_LARGE", "RUN_TOO_LARGE", "REPLY_TOO_LARGE" and "TOO_MANY_STREAMS".
    """

    @classmethod
    def in_field(cls, field: str, reason: str, message: str) -> "InvalidInput":
        """Make the error for one field of a request that is not sent because of it."""
        return cls(message, code="INVALID_ARGUMENT", reason=reason, fields={field: message})


class InvalidAddress(SigmaxError):
    """The address of the server cannot be one. The message says what was expected."""


class InvalidCredentials(SigmaxError):
    """TLS's files or the token cannot be used, or a token would be sent in plaintext.

    The message names the file and its fault, and never shows a token. Mostly told when a client is
    made; by a call where a token or its file is found wrong then.
    """

    @classmethod
    def in_argument(cls, argument: str, problem: str) -> "InvalidCredentials":
        """Make the error for one argument of a client."""
        message = f"{argument}: {problem}"
        return cls(
            message, code="INVALID_ARGUMENT", reason="BAD_CREDENTIALS", fields={argument: message}
        )


class ModelNotFound(SigmaxError):
    """The server has no such model, or no such version of it."""


class NotSupported(SigmaxError):
    """The model or the server cannot do this, such as classify with a model without a task."""


class Overloaded(SigmaxError):
    """The server has more work than it accepts; retry after `retry_after` seconds.

    `retry_after` is None where the server named no time. The SDK does not retry such an error.
    """


class DeadlineExceeded(SigmaxError):
    """No answer came within the timeout."""


class Unavailable(SigmaxError):
    """The server cannot be reached, is stopping, or has not loaded the model yet.

    The reason "NOT_CONNECTED" says that no connection could be made, and "TLS_FAILED" that TLS does
    not let one be made, such as by a certificate that is not trusted. The SDK does not retry the
    latter.
    """


class Cancelled(SigmaxError):
    """The call was cancelled before its answer came, or the client is closed."""


class AccessDenied(SigmaxError):
    """Credentials are missing or wrong, or do not allow the call."""


class ServerFault(SigmaxError):
    """The server failed, and the request was not the cause."""

    @classmethod
    def malformed(cls, detail: str) -> "ServerFault":
        """Make the error for an answer that is not what was asked for."""
        return cls(f"the server's answer is malformed: {detail}", code="INTERNAL")
