//! How far the server's end has come, and what it still waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The end has not begun.
    Serving,
    /// No new connections and calls are taken; what was accepted is answered.
    Draining,
    /// Everything ends at once.
    Over,
}

/// Waits until the end has come as far as `is_time` says; keeps nothing of `life` locked.
pub async fn until(mut life: watch::Receiver<Life>, is_time: impl Fn(Life) -> bool) {
    let _ = life.wait_for(|life| is_time(*life)).await;
}

/// One of a count, until it is dropped.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts one more.
    pub fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
