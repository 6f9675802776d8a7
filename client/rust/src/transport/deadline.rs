//! Time limits, and the header `grpc-timeout`.

use std::time::Duration;

use http::HeaderValue;

use crate::error::{Code, Error};

/// The longest time limit, 31 years: clocks have an end.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);

/// A time limit with its header.
#[derive(Debug)]
pub(super) struct Timeout {
    pub(super) time: Duration,
    pub(super) header: HeaderValue,
}

impl Timeout {
    pub(super) fn new(time: Duration) -> Self {
        let time = time.min(LONGEST);
        Self { time, header: header(time) }
    }
}

/// The value of `grpc-timeout` for this time: at most eight digits and a unit, rounded down.
pub(super) fn header(time: Duration) -> HeaderValue {
    let units = [
        (time.as_nanos(), "n"),
        (time.as_micros(), "u"),
        (time.as_millis(), "m"),
        (u128::from(time.as_secs()), "S"),
        (u128::from(time.as_secs() / 60), "M"),
    ];
    let fits = units.into_iter().find(|(count, _)| *count < 100_000_000);
    let (count, unit) = fits.unwrap_or((99_999_999, "M"));
    HeaderValue::from_str(&format!("{count}{unit}"))
        .unwrap_or_else(|_| HeaderValue::from_static("99999999M"))
}

/// The error of a call whose time limit has passed.
pub(super) fn passed(time: Duration) -> Error {
    Error::new(Code::DeadlineExceeded, format!("the time limit of {time:?} has passed"))
        .because("DEADLINE_EXCEEDED")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The time that a header means, as gRPC's specification says.
    fn read(header: &HeaderValue) -> Duration {
        let text = header.to_str().expect("text");
        let (digits, unit) = text.split_at(text.len() - 1);
        assert!((1..=8).contains(&digits.len()), "{text}");
        let count: u64 = digits.parse().expect("a number");
        match unit {
            "n" => Duration::from_nanos(count),
            "u" => Duration::from_micros(count),
            "m" => Duration::from_millis(count),
            "S" => Duration::from_secs(count),
            "M" => Duration::from_secs(60 * count),
            _ => panic!("{text}"),
        }
    }

    proptest! {
        #[test]
        fn a_header_means_its_time_but_for_a_millionth(
            exponent in 0u32..60, seconds in 0u64..1_000_000_000, nanos in 0u32..1_000_000_000
        ) {
            let time = Duration::new(seconds, nanos) / 2u32.pow(exponent / 2) / 2u32.pow(exponent.div_ceil(2));
            let read = read(&Timeout::new(time).header);
            prop_assert!(read <= time, "{read:?} {time:?}");
            prop_assert!(time - read <= time / 100_000, "{read:?} {time:?}");
        }
    }

    #[test]
    fn no_time_is_too_long() {
        assert_eq!(Timeout::new(Duration::MAX).time, LONGEST);
        assert_eq!(header(Duration::MAX), "99999999M");
    }
}
