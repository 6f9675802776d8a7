//! The metrics that one thread counts for one version of a model.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::Code;

use crate::metrics::counters::{Clock, Counter, Histogram};
use crate::metrics::outcome::{Outcome, Refusal};
use crate::metrics::statistics::{BatchStatistics, Statistics};
use crate::metrics::timings::{Timings, nanoseconds};

/// The upper bounds of the time histograms, in nanoseconds: 10 us to 10 s.
const TIME_BOUNDS: [u64; 19] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The upper bounds of the batch size histogram, in rows.
const ROW_BOUNDS: [u64; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/// The metrics that one thread counts for one version of a model.
#[derive(Debug)]
pub struct ModelMetrics {
    pub requests: [Counter; 17],
    pub refusals: [Counter; Refusal::ALL.len()],
    pub latency: Histogram<19>,
    pub queue: Histogram<19>,
    pub compute: Histogram<19>,
    pub batch_rows: Histogram<13>,
    rows: Counter,
    success: Clock,
    fail: Clock,
    parts: [Clock; 4],
    last_inference: Counter,
    /// The statistics by the rows of a batch. They are locked once a batch, and by a reader for as
    /// long as it copies.
    batches: Mutex<BTreeMap<usize, BatchStatistics>>,
}

impl ModelMetrics {
    pub fn new() -> Self {
        Self {
            requests: std::array::from_fn(|_| Counter::default()),
            refusals: Default::default(),
            latency: Histogram::new(&TIME_BOUNDS),
            queue: Histogram::new(&TIME_BOUNDS),
            compute: Histogram::new(&TIME_BOUNDS),
            batch_rows: Histogram::new(&ROW_BOUNDS),
            rows: Counter::default(),
            success: Clock::default(),
            fail: Clock::default(),
            parts: Default::default(),
            last_inference: Counter::default(),
            batches: Mutex::default(),
        }
    }

    /// Counts a request that is not run.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize].add(1);
    }

    /// Counts a request that has ended, the time `total` after its first byte; `ran` where the
    /// network has answered it.
    pub fn request(&self, outcome: Outcome, total: Duration, ran: Option<Ran>) {
        let Outcome { code, refusal } = outcome;
        if let Some(refusal) = refusal {
            self.refused(refusal);
        }
        self.requests[code as usize].add(1);
        self.latency.record(nanoseconds(total));
        let Some(Ran { rows, parts }) = ran.filter(|_| code == Code::Ok) else {
            return self.fail.record(nanoseconds(total));
        };
        self.queue.record(parts[0]);
        self.rows.add(rows);
        self.success.record(nanoseconds(total));
        self.parts.iter().zip(parts).for_each(|(clock, time)| clock.record(time));
    }

    /// Counts a batch that has run.
    pub fn batch(&self, timings: &Timings) {
        self.batch_rows.record(timings.batch_rows as u64);
        self.compute.record(nanoseconds(timings.compute()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_inference.set(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = batches.entry(timings.batch_rows).or_default();
        batch.input.record(timings.input);
        batch.infer.record(timings.infer);
        batch.output.record(timings.output);
    }

    pub fn add_to(&self, sum: &mut Statistics) {
        sum.last_inference = sum.last_inference.max(self.last_inference.get());
        sum.rows += self.rows.get();
        sum.success.add(&self.success);
        sum.fail.add(&self.fail);
        let parts = [&mut sum.queue, &mut sum.input, &mut sum.infer, &mut sum.output];
        parts.into_iter().zip(&self.parts).for_each(|(sum, part)| sum.add(part));
        for (rows, batch) in &*self.batches.lock().unwrap_or_else(PoisonError::into_inner) {
            sum.executions += batch.infer.count;
            let all = sum.batches.entry(*rows).or_default();
            for (all, one) in [
                (&mut all.input, batch.input),
                (&mut all.infer, batch.infer),
                (&mut all.output, batch.output),
            ] {
                all.count += one.count;
                all.nanoseconds += one.nanoseconds;
            }
        }
    }
}

/// The rows and times of a request that the network has answered.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    rows: u64,
    /// The times of queue, input, infer and output, in nanoseconds. They are half as wide as
    /// durations, because every call carries room for them.
    parts: [u64; 4],
}

impl Ran {
    /// A request of `rows` with these timings.
    pub fn new(rows: usize, timings: &Timings) -> Self {
        let Timings { queue, input, infer, output, .. } = *timings;
        Self { rows: rows as u64, parts: [queue, input, infer, output].map(nanoseconds) }
    }
}
