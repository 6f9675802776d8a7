//! Whether a request is taken at all.

use std::time::{Duration, Instant};

use crate::error::{Error, Full, Result};
use crate::scheduler::limits::{QueueLimits, Size};

/// A request that waited to begin takes so many times that long. The shard is behind, and a worker
/// that it gives work to keeps it there: it would come to begin requests only when they are too old
/// to be run. So it refuses them until it has caught up, as CoDel does by the time in a queue.
const CATCHING_UP: u32 = 4;

/// How a request wants to be treated.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestOptions {
    /// Since when it has waited for the server to begin it; none: now.
    pub ready: Option<Instant>,
    /// When its answer is of no more use.
    pub deadline: Option<Instant>,
    /// The longest that it wants to wait for its batch.
    pub patience: Option<Duration>,
    /// The priority: 1 is the highest; 0: the model's default.
    pub priority: u64,
    /// All of the outputs go into the answer, as they are.
    pub all_outputs: bool,
}

/// Decides which requests one model takes.
#[derive(Debug)]
pub struct Admission<'a> {
    /// The model's name.
    pub model: &'a str,
    /// What waits for it, and how long that takes.
    pub limits: &'a QueueLimits,
    /// Whether it is run by workers, and not in the shard's loop.
    pub by_workers: bool,
}

impl Admission<'_> {
    /// Takes room in the queue, or refuses what it has none for, and what cannot be answered in time.
    pub fn admit(&self, size: Size, now: Instant, options: RequestOptions) -> Result<()> {
        if let Some(deadline) = options.deadline {
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return Err(Error::DeadlineExceeded);
            }
            let expected = self.expected(size, now, options.ready);
            if expected > left {
                return Err(Error::too_late(expected, left));
            }
        }
        self.limits.enter(size).map_err(|full| self.queue_full(full))
    }

    /// How long an answer takes: its run at its shortest and, where others wait, their time, too.
    fn expected(&self, size: Size, now: Instant, ready: Option<Instant>) -> Duration {
        let estimate = &self.limits.estimate;
        let runs = estimate.behind(self.limits.rows()) + estimate.run(size.rows);
        match ready {
            Some(ready) if self.by_workers => {
                runs.max(now.saturating_duration_since(ready) * CATCHING_UP)
            }
            _ => runs,
        }
    }

    /// With the time that what waits will take.
    fn queue_full(&self, full: Full) -> Error {
        let wait = self.limits.estimate.queue(self.limits.rows());
        let retry_after = wait.max(Duration::from_millis(1));
        Error::QueueFull { model: self.model.to_owned(), full, retry_after }
    }
}
