"""The retries of a call: one deadline, a limited number of retries, growing pauses."""

import math
import random
import time
from collections.abc import Callable

from sigmax._errors import DeadlineExceeded, Overloaded, SigmaxError, Unavailable

_FIRST_PAUSE = 0.1  # seconds before the first retry; doubled after every failure
_LONGEST_PAUSE = 1.0  # seconds, without the time that a server names and the jitter


class Schedule:
    """The deadline and the retries of one call of the SDK, over all RPCs that the call makes.

    Args:
        timeout: Seconds from now to the deadline; `math.inf` for none.
        retries: Most retries, of all RPCs together.
        clock: Clock that never goes back, in seconds.
        jitter: Source of random numbers in [0, 1), so that callers that failed at the same time
            retry at different times.
    """

    def __init__(
        self,
        timeout: float,
        retries: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._timeout = timeout
        self._deadline = clock() + timeout
        self._retries = retries
        self._failures = 0

    def remaining(self) -> float | None:
        """Return the seconds to the deadline, above 0; None where there is no deadline.

        Raises:
            DeadlineExceeded: The deadline has passed, and nothing more is to be sent.
        """
        if math.isinf(self._deadline):
            return None
        left = self._deadline - self._clock()
        if left <= 0:
            raise DeadlineExceeded(
                f"the timeout of {self._timeout:g} s has passed", code="DEADLINE_EXCEEDED"
            )
        return left

    def pause_after(self, error: SigmaxError) -> float | None:
        """Return the seconds to wait before the next try; None where the error is final.

        Only errors that may pass are retried: `Unavailable`, and `Overloaded` where the server
        names a time after which to retry. An error is final, too, where the pause would reach the
        deadline. The pause is the time that the server names, if any, and a backoff of 0.1 s,
        doubled after every failure up to 1 s, times a random factor in [0.5, 1).
        """
        if self._failures >= self._retries or not _passes(error):
            return None
        backoff = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures, 10))
        pause = (error.retry_after or 0.0) + backoff * (0.5 + self._jitter() / 2)
        if self._clock() + pause >= self._deadline:
            return None
        self._failures += 1
        return pause


def _passes(error: SigmaxError) -> bool:
    return isinstance(error, Unavailable) or (
        isinstance(error, Overloaded) and error.retry_after is not None
    )
