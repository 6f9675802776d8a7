//! What happens often is told seldom, with how often it has happened.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The time between two tellings.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts what happens between two lines of the log.
#[derive(Debug, Default)]
pub struct Seldom {
    count: Cell<u64>,
    told: Cell<Option<Instant>>,
}

impl Seldom {
    /// It has happened once more: how often since it was last told, where it is to be told now.
    pub fn happens(&self, now: Instant) -> Option<u64> {
        self.count.update(|count| count + 1);
        if self.told.get().is_some_and(|told| now.saturating_duration_since(told) < PAUSE) {
            return None;
        }
        self.told.set(Some(now));
        Some(self.count.replace(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_told_at_once_and_the_others_are_counted() {
        let seldom = Seldom::default();
        let start = Instant::now();
        assert_eq!(seldom.happens(start), Some(1));
        for _ in 0..99 {
            assert_eq!(seldom.happens(start + PAUSE / 2), None);
        }
        assert_eq!(seldom.happens(start + PAUSE), Some(100));
        assert_eq!(seldom.happens(start + PAUSE), None);
    }
}
