//! When a call is tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::error::{Error, Retry};
use crate::transport::deadline;

/// The pause before the first retry; doubled after every failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause of our own; a server may name a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The tries of one call.
#[derive(Debug)]
pub(super) struct Schedule {
    max_attempts: u32,
    failures: u32,
    /// Failures since the server last named a time, after which pauses begin anew (gRFC A6).
    since_pushback: u32,
    has_been_resent: bool,
    /// The last error that another try has followed.
    before: Option<Error>,
}

impl Schedule {
    pub(super) fn new(max_attempts: u32) -> Self {
        let (failures, since_pushback) = (0, 0);
        Self { max_attempts, failures, since_pushback, has_been_resent: false, before: None }
    }

    /// The time until the next try; none where the error ends the call.
    pub(super) fn pause_after(&mut self, error: &Error) -> Option<Duration> {
        if error.retry() == Retry::AtOnce && !self.has_been_resent {
            self.has_been_resent = true;
            self.before = Some(error.clone());
            return Some(Duration::ZERO);
        }
        if !error.is_retryable() || self.failures + 1 >= self.max_attempts {
            return None;
        }
        self.failures += 1;
        self.before = Some(error.clone());
        Some(match error.retry() {
            Retry::After(time) => {
                self.since_pushback = 0;
                time
            }
            _ => {
                let pause = FIRST_PAUSE * 2u32.pow(self.since_pushback.min(10));
                self.since_pushback += 1;
                pause.min(LONGEST_PAUSE).mul_f64(jitter())
            }
        })
    }

    /// The error of a call whose time limit passed during these tries.
    pub(super) fn passed(&self, time: Duration) -> Error {
        match &self.before {
            None => deadline::passed(time),
            Some(before) => deadline::passed(time).and(format!("the try before: {before}")),
        }
    }
}

/// A random factor in [0.8, 1.2), so that calls that failed together are retried apart.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(0);
    0.8 + 0.4 * (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn unavailable() -> Error {
        Error::new(Code::Unavailable, "away")
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_the_attempts_are_counted() {
        let mut schedule = Schedule::new(8);
        for expected in [100, 200, 400, 800, 1600, 2000, 2000] {
            let pause = schedule.pause_after(&unavailable()).expect("a pause").as_secs_f64() * 1e3;
            let expected = f64::from(expected);
            assert!((0.79 * expected..1.21 * expected).contains(&pause), "{pause} {expected}");
        }
        assert_eq!(schedule.pause_after(&unavailable()), None);
    }

    #[test]
    fn a_pushback_is_obeyed_and_begins_anew() {
        let mut schedule = Schedule::new(9);
        let told = Error::new(Code::ResourceExhausted, "full").then(Retry::After(Duration::ZERO));
        assert!(schedule.pause_after(&unavailable()).is_some());
        assert!(schedule.pause_after(&unavailable()).is_some());
        assert_eq!(schedule.pause_after(&told), Some(Duration::ZERO));
        assert!(schedule.pause_after(&unavailable()).expect("a pause") < 2 * FIRST_PAUSE);
        assert_eq!(schedule.pause_after(&unavailable().then(Retry::Never)), None);
    }

    #[test]
    fn other_errors_end_the_call() {
        let mut schedule = Schedule::new(4);
        for code in [Code::Internal, Code::DeadlineExceeded, Code::InvalidArgument] {
            assert_eq!(schedule.pause_after(&Error::new(code, "")), None);
        }
    }

    #[test]
    fn a_call_that_was_not_worked_on_is_sent_again_at_once_and_once() {
        let mut schedule = Schedule::new(1);
        let unsent = unavailable().then(Retry::AtOnce);
        assert_eq!(schedule.pause_after(&unsent), Some(Duration::ZERO));
        assert_eq!(schedule.pause_after(&unsent), None);
    }

    #[test]
    fn a_passed_deadline_names_the_failure_before() {
        let mut schedule = Schedule::new(4);
        schedule.pause_after(&unavailable());
        assert!(schedule.passed(FIRST_PAUSE).message().contains("away"));
    }
}
