"""The retries of a call: one deadline, growing pauses, and perhaps a limited number of retries."""

import math
import random
import time
from collections.abc import Callable
from typing import Final

from sigmax._errors import (
    NOT_CONNECTED,
    TLS_FAILED,
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    SigmaxError,
    Unavailable,
)

LONGEST_TIMEOUT: Final = 1e9  # seconds, 31 years; gRPC's clock has an end

_FIRST_PAUSE = 0.1  # seconds before the first retry; doubled after every failure
_LONGEST_PAUSE = 1.0  # seconds, without the time that a server names and the jitter


def check_timeout(timeout: float) -> None:
    """Refuse a time limit that is none: NaN, minus infinity, or one that gRPC cannot count to.

    Raises:
        InvalidInput: The time limit is one of these.
    """
    if not (-LONGEST_TIMEOUT <= timeout <= LONGEST_TIMEOUT or timeout == math.inf):
        raise InvalidInput.in_field(
            "timeout",
            "BAD_FIELD",
            f"timeout: expected at most {LONGEST_TIMEOUT:.0f} seconds, or math.inf for none; "
            f"got {timeout!r}",
        )


def check_retries(retries: int | None) -> None:
    """Refuse a number of retries below 0.

    Raises:
        InvalidInput: The number is below 0.
    """
    if retries is not None and retries < 0:
        raise InvalidInput.in_field(
            "retries",
            "BAD_FIELD",
            f"retries: expected 0 or more, or None for no limit; got {retries!r}",
        )


class Schedule:
    """The deadline and the retries of one call of the SDK, over all RPCs that the call makes.

    Args:
        timeout: Seconds from now to the deadline; `math.inf` for none.
        retries: Most retries, of all RPCs together; None for no limit but the deadline.
        waits_for_server: Whether a server that no connection could be made to is tried again.
        clock: Clock that never goes back, in seconds.
        jitter: Source of random numbers in [0, 1), so that callers that failed at the same time
            retry at different times.

    Raises:
        InvalidInput: The timeout is none (`check_timeout`).
    """

    def __init__(
        self,
        timeout: float,
        retries: int | None,
        *,
        waits_for_server: bool = True,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        check_timeout(timeout)
        self._clock = clock
        self._jitter = jitter
        self._timeout = timeout
        self._deadline = clock() + timeout
        self._retries = retries
        self._final = {TLS_FAILED} if waits_for_server else {TLS_FAILED, NOT_CONNECTED}
        self._failures = 0
        self._before = ""  # the last error that was followed by another try

    def remaining(self) -> float | None:
        """Return the seconds to the deadline, above 0; None where there is no deadline.

        Raises:
            DeadlineExceeded: The deadline has passed, and nothing more is to be sent.
        """
        if math.isinf(self._deadline):
            return None
        left = self._deadline - self._clock()
        if left <= 0:
            passed = f"the timeout of {self._timeout:g} s has passed"
            raise self.final(DeadlineExceeded(passed, code="DEADLINE_EXCEEDED"))
        return left

    def pause_after(self, error: SigmaxError) -> float | None:
        """Return the seconds to wait before the next try; None where the error is final.

        Only errors that may pass are retried: `Unavailable`, and `Overloaded` where the server
        names a time after which to retry. An error is final, too, where TLS let no connection be
        made, or the pause would reach the deadline. The pause is the time that the server names,
        if any, and a backoff of 0.1 s, doubled after every failure up to 1 s, times a random
        factor in [0.5, 1).
        """
        if error.reason in self._final or not _passes(error):
            return None
        if self._retries is not None and self._failures >= self._retries:
            return None
        backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures, 10))
        pause = (error.retry_after or 0.0) + backoff * (0.5 + self._jitter() / 2)
        if self._clock() + pause >= self._deadline:
            return None
        self._failures += 1
        self._before = str(error)
        return pause

    def final(self, error: SigmaxError) -> SigmaxError:
        """Return the error that ends the call: a passed deadline names the failure before it."""
        if self._before and isinstance(error, DeadlineExceeded):
            return DeadlineExceeded(f"{error}; the try before: {self._before}", code=error.code)
        return error


def _passes(error: SigmaxError) -> bool:
    if error.is_final:
        return False
    return isinstance(error, Unavailable) or (
        isinstance(error, Overloaded) and error.retry_after is not None
    )
