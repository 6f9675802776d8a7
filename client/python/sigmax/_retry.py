"""When a failed call is tried again: one deadline, a bounded number of tries, growing pauses."""

import math
import random
import time
from collections.abc import Callable

from sigmax._errors import DeadlineExceeded, Overloaded, SigmaxError, Unavailable

_FIRST_PAUSE = 0.1  # seconds; doubled after every failure
_LONGEST_PAUSE = 1.0  # seconds


class Schedule:
    """The time and the tries that one call of the SDK has, over all RPCs it is made of.

    Args:
        timeout: Seconds from now to the deadline; `math.inf` for none.
        retries: How many failures are tried again.
        clock: Seconds on a clock that never goes back.
        jitter: A random number in [0, 1), so that callers who failed together return apart.
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
        """Seconds to the deadline, above 0; None where there is none: as gRPC takes it.

        Raises:
            DeadlineExceeded: It has passed, so that nothing is worth sending any more.
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
        """Seconds to wait before the next try; None where the error is final.

        Tried again are only what passes by itself: `Unavailable`, and `Overloaded` where the
        server says after which time. A pause that would reach the deadline is not begun.
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
