//! The statistics of a model, as sums over all threads.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::metrics::counters::Clock;
use crate::metrics::timings::nanoseconds;

/// The number of events and their time in all; a copy of a [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elapsed {
    /// The number of events.
    pub count: u64,
    /// The nanoseconds of all events together.
    pub nanoseconds: u64,
}

impl Elapsed {
    pub fn add(&mut self, clock: &Clock) {
        self.count += clock.count.get();
        self.nanoseconds += clock.nanoseconds.get();
    }

    pub fn record(&mut self, time: Duration) {
        self.count += 1;
        self.nanoseconds += nanoseconds(time);
    }
}

/// The runs of one batch size, by their parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStatistics {
    /// The time of gathering the rows.
    pub input: Elapsed,
    /// The time of running the network.
    pub infer: Elapsed,
    /// The time of splitting the outputs.
    pub output: Elapsed,
}

/// The statistics of one version of a model, over all threads. The parts are counted once for each
/// answered request: its own time in the queue, and otherwise the time of its whole batch.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// The time at which a batch last ended, in milliseconds since 1970; 0: never.
    pub last_inference: u64,
    /// The rows of answered requests.
    pub rows: u64,
    /// The runs of the network.
    pub executions: u64,
    /// The answered requests, with their time from the first byte.
    pub success: Elapsed,
    /// The refused and failed requests, with their time from the first byte.
    pub fail: Elapsed,
    /// The time of waiting for the batch.
    pub queue: Elapsed,
    /// The time of gathering the rows.
    pub input: Elapsed,
    /// The time of running the network.
    pub infer: Elapsed,
    /// The time of splitting the outputs.
    pub output: Elapsed,
    /// The runs by the rows of their batches.
    pub batches: BTreeMap<usize, BatchStatistics>,
}
