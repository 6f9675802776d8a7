//! What a model has done, in sums.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::metrics::counters::Clock;
use crate::metrics::timings::nanoseconds;

/// How often, and for how long in all; a [`Clock`] as it stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elapsed {
    /// How often.
    pub count: u64,
    /// Nanoseconds in all.
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

/// Runs of one size, by their parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStatistics {
    /// Gathering the rows.
    pub input: Elapsed,
    /// Running the network.
    pub infer: Elapsed,
    /// Splitting the outputs.
    pub output: Elapsed,
}

/// What one version of a model has done, over all threads. The parts are counted once a request
/// that was answered, each with the time of its whole batch.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// When a batch last ended, in milliseconds since 1970; 0: never.
    pub last_inference: u64,
    /// Rows answered.
    pub rows: u64,
    /// Runs of the network.
    pub executions: u64,
    /// Requests answered, from their first byte.
    pub success: Elapsed,
    /// Requests refused or failed.
    pub fail: Elapsed,
    /// Waiting for the batch.
    pub queue: Elapsed,
    /// Gathering the rows.
    pub input: Elapsed,
    /// Running the network.
    pub infer: Elapsed,
    /// Splitting the outputs.
    pub output: Elapsed,
    /// The runs of each batch size, in rows.
    pub batches: BTreeMap<usize, BatchStatistics>,
}
