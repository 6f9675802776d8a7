//! The estimate of how long a model's runs take: timed at warm-up, corrected by every run since.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::model::Model;

/// The share by which each run moves the known slowness to the slowness that the run has shown.
const LEARNING: f32 = 0.125;
/// The most that one run teaches, in times of the warm-up's run: a longer run is an accident.
const SLOWEST: f32 = 16.0;

/// The factor by which a wait behind other rows is lengthened before it is held against a deadline:
/// the parts of a request's way that the server does not see take time as well.
const CAUTION: f64 = 1.2;

/// The run times of one model on all of its engines.
#[derive(Debug)]
pub struct Estimate {
    /// Pairs of a batch's rows and the microseconds of its run, by rising rows; may be empty.
    timings: Vec<(usize, f64)>,
    /// The rows of each batch that a long queue forms; at least 1.
    batch_rows: usize,
    /// The engines, which is how many batches run at once.
    engines: usize,
    /// The factor by which runs take longer than at warm-up, as the bits of an `f32`.
    slowness: AtomicU32,
}

impl Estimate {
    /// The estimate that the warm-up's timings give.
    pub fn new(model: &Model, engines: usize) -> Self {
        Self {
            timings: model.report.microseconds_per_batch.clone(),
            batch_rows: model.batch_rows().max(1),
            engines,
            slowness: AtomicU32::new(1.0f32.to_bits()),
        }
    }

    /// The estimate of a model that nothing is known of.
    #[cfg(test)]
    pub fn unknown() -> Self {
        let slowness = AtomicU32::new(1.0f32.to_bits());
        Self { timings: Vec::new(), batch_rows: 1, engines: 1, slowness }
    }

    /// The shortest time of a run of `rows`; zero where the model was never timed.
    pub fn run(&self, rows: usize) -> Duration {
        Duration::from_nanos((self.microseconds(rows) * 1e3) as u64)
    }

    /// The time in which all engines together run `rows` that wait.
    pub fn queue(&self, rows: usize) -> Duration {
        self.batches(rows as f64 / self.batch_rows as f64)
    }

    /// The time that a request waits for its answer behind `rows`: for these rows, for the batch
    /// that runs when it comes, and for its own batch. Zero where no rows wait.
    pub fn behind(&self, rows: usize) -> Duration {
        match rows {
            0 => Duration::ZERO,
            _ => self.batches(rows as f64 / self.batch_rows as f64 + 2.0).mul_f64(CAUTION),
        }
    }

    fn batches(&self, batches: f64) -> Duration {
        let batches = batches / self.engines as f64;
        let slowness = f64::from(f32::from_bits(self.slowness.load(Relaxed)));
        let nanoseconds = self.microseconds(self.batch_rows) * slowness * batches * 1e3;
        Duration::from_nanos(nanoseconds as u64)
    }

    /// Corrects the slowness by a run of `rows` that took `time`.
    pub fn ran(&self, rows: usize, time: Duration) {
        let expected = self.microseconds(rows) as f32;
        if expected > 0.0 {
            let found = (time.as_secs_f32() * 1e6 / expected).min(SLOWEST);
            let known = f32::from_bits(self.slowness.load(Relaxed));
            // Where two threads store at once, one correction is lost, which does no harm.
            self.slowness.store((known + LEARNING * (found - known)).to_bits(), Relaxed);
        }
    }

    /// The microseconds of a run of `rows` at warm-up: interpolated between the timed sizes around
    /// it, and in proportion to the largest timed size beyond that.
    fn microseconds(&self, rows: usize) -> f64 {
        let above = self.timings.partition_point(|(size, _)| *size < rows);
        match (above.checked_sub(1).map(|below| self.timings[below]), self.timings.get(above)) {
            (_, Some((size, time))) if *size == rows => *time,
            (Some((less, before)), Some((more, after))) => {
                let part = (rows - less) as f64 / (more - less) as f64;
                before + part * (after - before)
            }
            (Some((most, time)), None) => time / most as f64 * rows as f64,
            (None, Some((_, time))) => *time,
            (None, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(engines: usize) -> Estimate {
        let timings = vec![(1, 100.0), (2, 120.0), (4, 200.0)];
        Estimate { timings, batch_rows: 4, engines, ..Estimate::unknown() }
    }

    #[test]
    fn a_run_takes_what_the_warm_up_took() {
        let microseconds = [1, 2, 3, 4, 8].map(|rows| estimate(1).run(rows).as_micros());
        assert_eq!(microseconds, [100, 120, 160, 200, 400]);
    }

    #[test]
    fn a_queue_is_run_in_full_batches_on_all_engines() {
        assert_eq!(estimate(1).queue(40), Duration::from_millis(2));
        assert_eq!(estimate(2).queue(40), Duration::from_millis(1));
        assert_eq!(estimate(1).queue(0), Duration::ZERO);
    }

    #[test]
    fn an_answer_waits_for_the_batch_that_runs_and_its_own_too() {
        assert_eq!(estimate(1).behind(0), Duration::ZERO);
        assert_eq!(estimate(1).behind(32), Duration::from_micros(2400));
    }

    #[test]
    fn runs_correct_the_warm_up_both_ways() {
        let estimate = estimate(1);
        (0..100).for_each(|_| estimate.ran(4, Duration::from_micros(600)));
        assert!((5.9..6.1).contains(&(estimate.queue(40).as_secs_f64() * 1e3)), "{estimate:?}");
        (0..100).for_each(|_| estimate.ran(1, Duration::from_micros(50)));
        assert!((0.9..1.1).contains(&(estimate.queue(40).as_secs_f64() * 1e3)), "{estimate:?}");
        assert_eq!(
            estimate.run(4),
            Duration::from_micros(200),
            "of the least there is no more to learn"
        );
    }

    #[test]
    fn what_was_never_timed_is_not_foretold() {
        let estimate = Estimate::unknown();
        estimate.ran(1, Duration::from_secs(1));
        assert_eq!((estimate.run(1), estimate.queue(1000)), (Duration::ZERO, Duration::ZERO));
    }
}
