"""The errors that are retried, the pauses between retries, and their end."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sigmax import DeadlineExceeded, InvalidInput, Overloaded, SigmaxError, Unavailable
from sigmax._retry import Schedule

UNAVAILABLE = Unavailable("", code="UNAVAILABLE")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def pauses(schedule: Schedule, clock: Clock, error: SigmaxError) -> list[float]:
    """The pauses of a caller who fails, waits and fails again until the error is final."""
    taken = []
    while (pause := schedule.pause_after(error)) is not None:
        taken.append(pause)
        clock.now += pause
    return taken


def test_pauses_double_up_to_a_second() -> None:
    clock = Clock()
    schedule = Schedule(math.inf, 6, clock=clock, jitter=lambda: 1.0)
    assert pauses(schedule, clock, UNAVAILABLE) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert schedule.remaining() is None


def test_without_a_limit_tries_last_as_long_as_the_timeout() -> None:
    clock = Clock()
    schedule = Schedule(10, None, clock=clock, jitter=lambda: 0.5)
    taken = pauses(schedule, clock, UNAVAILABLE)
    assert 9 < sum(taken) < 10
    assert max(taken) == 0.75


@given(st.floats(0.01, 30), st.integers(0, 50), st.floats(0, 1, exclude_max=True))
def test_pauses_end_before_the_deadline(timeout: float, retries: int, jitter: float) -> None:
    clock = Clock()
    schedule = Schedule(timeout, retries, clock=clock, jitter=lambda: jitter)
    taken = pauses(schedule, clock, UNAVAILABLE)
    assert len(taken) <= retries
    assert sum(taken) < timeout + 1e-9
    left = schedule.remaining()
    assert left is not None
    assert 0 < left <= timeout + 1e-9  # the clock starts at 100: sums are rounded


def test_an_overloaded_server_says_when_to_return() -> None:
    clock = Clock()
    error = Overloaded("", code="RESOURCE_EXHAUSTED", retry_after=2.0)
    schedule = Schedule(8, 4, clock=clock, jitter=lambda: 0.0)
    assert pauses(schedule, clock, error) == [2.05, 2.1, 2.2]  # a fourth would end after 8 s


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("", code="RESOURCE_EXHAUSTED"),  # no word of when to return
        InvalidInput("", code="INVALID_ARGUMENT"),
        SigmaxError("", code="ABORTED"),
    ],
)
def test_what_does_not_pass_by_itself_is_final(error: SigmaxError) -> None:
    assert Schedule(10, 4).pause_after(error) is None


def test_a_connection_that_tls_forbids_is_final() -> None:
    forbidden = Unavailable("", code="UNAVAILABLE", reason="TLS_FAILED")
    assert Schedule(10, 4).pause_after(forbidden) is None


def test_the_command_does_not_wait_for_a_server() -> None:
    gone = Unavailable("", code="UNAVAILABLE", reason="NOT_CONNECTED")
    assert Schedule(10, 4).pause_after(gone) is not None
    assert Schedule(10, 4, waits_for_server=False).pause_after(gone) is None
    assert Schedule(10, 4, waits_for_server=False).pause_after(UNAVAILABLE) is not None


def test_nothing_is_sent_after_the_deadline() -> None:
    clock = Clock()
    schedule = Schedule(1, 4, clock=clock)
    clock.now += 2
    with pytest.raises(DeadlineExceeded, match="the timeout of 1 s has passed"):
        schedule.remaining()
    assert schedule.pause_after(UNAVAILABLE) is None


def test_a_deadline_that_passes_in_a_later_try_names_the_failure_before() -> None:
    clock = Clock()
    schedule = Schedule(1, None, clock=clock)
    late = DeadlineExceeded("Deadline Exceeded", code="DEADLINE_EXCEEDED")
    assert schedule.final(late) is late
    schedule.pause_after(Unavailable("nobody there", code="UNAVAILABLE"))
    assert schedule.final(UNAVAILABLE) is UNAVAILABLE
    assert str(schedule.final(late)) == "Deadline Exceeded; the try before: nobody there"
    clock.now += 2
    with pytest.raises(DeadlineExceeded, match="1 s has passed; the try before: nobody there"):
        schedule.remaining()
