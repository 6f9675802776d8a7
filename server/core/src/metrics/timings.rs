//! How long the parts of a request took.

use std::time::Duration;

/// How long a request took, part by part. All but the queue is of the whole batch.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// From checked to the start of the batch.
    pub queue: Duration,
    /// Gathering the rows.
    pub input: Duration,
    /// Running the network.
    pub infer: Duration,
    /// Splitting the outputs.
    pub output: Duration,
    /// Rows of the batch.
    pub batch_rows: usize,
}

impl Timings {
    /// All that the batch took.
    pub fn compute(&self) -> Duration {
        self.input + self.infer + self.output
    }
}

/// A duration that fits a counter: 584 years.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
