//! The times that the parts of a request took.

use std::time::Duration;

/// The times of a request, part by part. All but the time in the queue are of the whole batch.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// The time from the validated request to the start of its batch.
    pub queue: Duration,
    /// The time of gathering the rows.
    pub input: Duration,
    /// The time of running the network.
    pub infer: Duration,
    /// The time of splitting the outputs.
    pub output: Duration,
    /// The rows of the batch.
    pub batch_rows: usize,
}

impl Timings {
    /// The time of the whole batch.
    pub fn compute(&self) -> Duration {
        self.input + self.infer + self.output
    }
}

/// The nanoseconds of a duration, of at most 584 years, which is what a counter holds.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
