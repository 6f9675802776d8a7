//! Adaptive busy polling: a shard that expects a request soon looks for it instead of sleeping.
//!
//! Waking a sleeping thread costs more than a small network. The window, which is the time that a
//! shard looks for a request, grows when requests come shortly after one another. It is nothing
//! when they do not, as in KVM's `halt_poll_ns`.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::yield_now;

/// The first window: about what a wake-up costs.
const LEAST: Duration = Duration::from_micros(10);

/// The rhythm of a shard's requests, and the window that follows from it.
#[derive(Debug)]
pub struct BusyPoll {
    /// The longest window; zero: the shard always sleeps.
    most: Duration,
    window: Cell<Duration>,
    /// The time at which a request last came, or was answered.
    active: Cell<Instant>,
    wake: Notify,
}

impl BusyPoll {
    /// Busy polling with windows up to `most`; zero: none.
    pub fn new(most: Duration) -> Self {
        Self {
            most,
            window: Cell::default(),
            active: Cell::new(Instant::now()),
            wake: Notify::new(),
        }
    }

    /// Notes that a request has come.
    pub fn request(&self, now: Instant) {
        if self.most.is_zero() {
            return;
        }
        let idle = now.saturating_duration_since(self.active.replace(now));
        let window = self.window.get();
        if idle > self.most {
            self.window.set(Duration::ZERO);
        } else if idle > window {
            self.window.set((window * 2).clamp(LEAST.min(self.most), self.most));
        }
    }

    /// Notes that a request has been answered: the next may follow.
    pub fn answered(&self, now: Instant) {
        self.active.set(now);
        if !self.window.get().is_zero() {
            self.wake.notify_one();
        }
    }

    /// Keeps the loop awake while a window is open. A task that yields is run again only after the
    /// sockets have been looked at.
    pub async fn run(&self) {
        loop {
            self.wake.notified().await;
            while self.active.get().elapsed() < self.window.get() {
                yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_micros(100);

    /// The windows, in microseconds, after requests that come so many microseconds after the last
    /// activity.
    fn windows(gaps: &[u64]) -> Vec<u64> {
        let poll = BusyPoll::new(CAP);
        let window = |gap: &u64| {
            poll.request(poll.active.get() + Duration::from_micros(*gap));
            poll.window.get().as_micros() as u64
        };
        gaps.iter().map(window).collect()
    }

    #[test]
    fn the_window_grows_until_requests_come_within_it() {
        assert_eq!(windows(&[50, 50, 50, 50, 50]), [10, 20, 40, 80, 80]);
        assert_eq!(windows(&[99; 6]), [10, 20, 40, 80, 100, 100]);
    }

    #[test]
    fn the_window_closes_when_requests_come_too_late() {
        assert_eq!(windows(&[50, 50, 101, 1000, 50]), [10, 20, 0, 0, 10]);
    }

    #[test]
    fn nothing_is_polled_where_it_is_off() {
        let poll = BusyPoll::new(Duration::ZERO);
        poll.request(Instant::now());
        assert_eq!(poll.window.get(), Duration::ZERO);
    }
}
