//! Admission decides whether a request is taken at all.

use std::time::{Duration, Instant};

use crate::error::{Error, Full, Result};
use crate::scheduler::limits::{QueueLimits, Size};

/// A request is expected to take at least this many times as long as it waited to be begun. A long
/// wait shows that the shard is behind, and work given to a worker keeps it behind: the shard would
/// begin requests only when they are too old to be run. So it refuses requests until it has caught
/// up, as CoDel does by the time in a queue.
const CATCHING_UP: u32 = 4;

/// Options that a request states about how it is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestOptions {
    /// The time since which the request has waited for the server to begin it; none: it did not
    /// wait.
    pub ready: Option<Instant>,
    /// The time at which the answer is of no more use; none: never.
    pub deadline: Option<Instant>,
    /// The longest time that the request wants to wait for its batch; none: the model's default.
    pub patience: Option<Duration>,
    /// The request's priority: 1 is the highest; 0: the model's default.
    pub priority: u64,
    /// Whether all outputs go into the answer as they are, so that the limit of an answer is
    /// theirs.
    pub all_outputs: bool,
}

/// The admission of one model: which requests it takes.
#[derive(Debug)]
pub struct Admission<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The room in the model's queues, and the estimate of how long its runs take.
    pub limits: &'a QueueLimits,
    /// Whether the model is run by workers, and not in the shard's loop.
    pub by_workers: bool,
}

impl Admission<'_> {
    /// Takes room in the queue for a request. A request that finds no room, or that cannot be
    /// answered by its deadline, is refused.
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

    /// The time until an answer is expected: the request's shortest run and, where rows wait before
    /// it, their time too. A request whose shard is behind is expected to take longer.
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

    /// The error of a full queue; the caller is to try again after the time that the waiting rows
    /// take.
    fn queue_full(&self, full: Full) -> Error {
        let wait = self.limits.estimate.queue(self.limits.rows());
        let retry_after = wait.max(Duration::from_millis(1));
        Error::QueueFull { model: self.model.to_owned(), full, retry_after }
    }
}
