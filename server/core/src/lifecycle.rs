//! The server's stages of life, and counts of what its end still waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::watch;

/// A stage of the server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Calls are served; the end has not begun.
    Serving,
    /// No new connections and calls are taken; calls that were accepted are answered.
    Draining,
    /// Every thread ends at once; requests still pending are counted as lost.
    Over,
}

/// Waits until the server's life has come to a stage for which `is_time` is true. Nothing of `life`
/// stays locked.
pub async fn until(mut life: watch::Receiver<Life>, is_time: impl Fn(Life) -> bool) {
    let _ = life.wait_for(|life| is_time(*life)).await;
}

/// One unit of a count, until this is dropped.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts one unit more.
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
