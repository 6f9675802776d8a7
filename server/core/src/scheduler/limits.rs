//! The limits of what waits for one model, held when a request comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::error::Full;
use crate::model::{Batching, QueuePolicy};
use crate::scheduler::estimate::Estimate;

/// The room that a request takes in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The request's rows; at least 1.
    pub rows: usize,
    /// The bytes of all inputs together.
    pub bytes: usize,
    /// The index of the request's priority; 0 is the highest.
    pub priority: usize,
}

/// The limits of all queues of one model together: rows, bytes, and requests of each priority.
#[derive(Debug)]
pub struct QueueLimits {
    rows: Bound,
    bytes: Bound,
    requests: Vec<Bound>,
    /// The estimate of how long the waiting rows will take.
    pub estimate: Estimate,
}

#[derive(Debug)]
struct Bound {
    unit: &'static str,
    count: AtomicUsize,
    limit: usize,
}

impl Bound {
    fn new(unit: &'static str, limit: usize) -> Self {
        Self { unit, count: AtomicUsize::new(0), limit }
    }

    fn enter(&self, count: usize) -> Result<(), Full> {
        let found = self.count.fetch_add(count, Relaxed);
        if found.saturating_add(count) > self.limit {
            self.leave(count);
            return Err(Full { unit: self.unit, found, limit: self.limit });
        }
        Ok(())
    }

    fn leave(&self, count: usize) {
        self.count.fetch_sub(count, Relaxed);
    }
}

impl QueueLimits {
    /// Limits of `rows`, of `bytes`, and of the requests that `batching` allows of each priority.
    pub fn new(rows: usize, bytes: usize, batching: &Batching, estimate: Estimate) -> Arc<Self> {
        let requests = |policy: &QueuePolicy| {
            Bound::new("requests", policy.max_requests.unwrap_or(usize::MAX))
        };
        Arc::new(Self {
            rows: Bound::new("rows", rows),
            bytes: Bound::new("bytes", bytes),
            requests: batching.priorities.iter().map(requests).collect(),
            estimate,
        })
    }

    /// Takes room for a request; the error says which limit it would exceed.
    pub fn enter(&self, size: Size) -> Result<(), Full> {
        self.rows.enter(size.rows)?;
        if let Err(full) = self.bytes.enter(size.bytes) {
            self.rows.leave(size.rows);
            return Err(full);
        }
        if let Err(full) = self.requests[size.priority].enter(1) {
            self.rows.leave(size.rows);
            self.bytes.leave(size.bytes);
            return Err(full);
        }
        Ok(())
    }

    /// The rows that wait now.
    pub fn rows(&self) -> usize {
        self.rows.count.load(Relaxed)
    }

    /// Gives the room of a request back.
    pub fn leave(&self, size: Size) {
        self.rows.leave(size.rows);
        self.bytes.leave(size.bytes);
        self.requests[size.priority].leave(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_refuse_what_is_over_a_limit_and_says_how_much_waits() {
        let batching = Batching {
            priorities: vec![QueuePolicy { max_requests: Some(3), ..Default::default() }],
            ..Default::default()
        };
        let limits = QueueLimits::new(10, 100, &batching, Estimate::unknown());
        let size = |rows, bytes| Size { rows, bytes, priority: 0 };
        assert_eq!(limits.enter(size(7, 10)), Ok(()));
        let full = |unit, found, limit| Err(Full { unit, found, limit });
        assert_eq!(limits.enter(size(4, 10)), full("rows", 7, 10));
        assert_eq!(limits.enter(size(1, 91)), full("bytes", 10, 100));
        assert_eq!(limits.enter(size(1, 10)), Ok(()));
        assert_eq!(limits.enter(size(1, 10)), Ok(()));
        assert_eq!(limits.enter(size(1, 10)), full("requests", 3, 3));
        assert_eq!((limits.rows(), limits.bytes.count.load(Relaxed)), (9, 30));
    }
}
