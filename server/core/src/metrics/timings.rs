//! How long the parts of a request took.

use std::time::Duration;

/// How long a request took, part by part. All but the queue is of the whole batch.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// Time from the validated request to the start of its batch.
    pub queue: Duration,
    /// Time of gathering the rows.
    pub input: Duration,
    /// Time of running the network.
    pub infer: Duration,
    /// Time of splitting the outputs.
    pub output: Duration,
    /// Rows of the batch.
    pub batch_rows: usize,
}

impl Timings {
    /// Time of the whole batch.
    pub fn compute(&self) -> Duration {
        self.input + self.infer + self.output
    }
}

/// A duration that fits a counter: 584 years.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
