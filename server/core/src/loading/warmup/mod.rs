//! The warm-up of a model before it serves. It shows which batch sizes are worth their time,
//! whether the model holds up a shard, and whether rows depend on each other.
//!
//! The network is run on rows of its golden samples, where it has some, and on generated rows:
//! floats in [-1, 1), integers of 0 and 1, which small embeddings take too, and strings of such
//! integers. A network that refuses these is run with golden rows alone. A network without golden
//! samples is run with rows of no zeros, of ones and of zeros instead. Sizes that the graph leaves
//! open, but for the batch, are the golden sample's, or else the first of some usual lengths that
//! runs.

use std::time::Duration;

use crate::engine::{Engine, EngineError};
use crate::loading::error::LoadError;
use crate::loading::golden::Sample;
use crate::loading::warmup::dependence::{row_difference, scaled};
use crate::loading::warmup::rows::{MOST_BYTES, Pool};
use crate::model::{ModelSpec, Report};
use crate::tensor::Tensor;

pub mod dependence;
pub mod promise;
pub mod rows;

/// Microseconds of a full batch above which a model is heavy.
const HEAVY: f64 = 500.0;
/// The factor of the cheapest row's time up to which a batch size is as good as the best.
const AS_GOOD: f64 = 1.05;
/// Time in all for which larger batches are tried while larger batches make rows cheaper.
const WHILE_CHEAPER: Duration = Duration::from_secs(1);
/// Longest run after which a larger batch is tried though rows have not got cheaper.
const WHILE_FLAT: Duration = Duration::from_micros(500);
/// Time in all for which the runs of one size are repeated, after two at least: the shortest run
/// has the least noise.
const REPEAT_FOR: Duration = Duration::from_micros(100);
/// The difference up to which answers are the same, scaled as that of golden samples is: the noise of
/// floats.
const NOISE: f64 = 1e-5;

/// Runs a new engine until its report is known, and gets it ready. `slack` comes from
/// [`golden::slack`].
///
/// A network that takes none of the rows tried is no error, for only real rows may suit it: it
/// counts as heavy and its rows as dependent. Errors are an answer that is not what the graph
/// declares, not what a head promises, or not what the row had alone, a device that fails, and a
/// run that had to be ended.
pub fn warm_up(
    engine: &mut dyn Engine,
    spec: &ModelSpec,
    golden: &[Sample],
    slack: f64,
) -> Result<Report, LoadError> {
    let tolerance = f64::from(spec.tolerance).max(NOISE).max(slack);
    promise::check_samples(spec, golden)?;
    let mut refusal = String::from("there are none to try");
    for pool in Pool::candidates(spec, golden) {
        let alone = pool.run_alone(engine, spec.max_batch_size);
        let Some(alone) = taken(alone, &mut refusal)? else { continue };
        declared(spec, &alone[0])?;
        let seen = dependence::look(engine, &pool, &alone, tolerance);
        let Some(seen) = taken(seen, &mut refusal)? else { continue };
        let mut warnings = spec.warnings.clone();
        warnings.extend(promise::check_rows(spec, golden, &alone, &seen.batch)?);
        let rows_independent = seen.rows.independent(spec.rows_independent, &mut warnings);
        prepare(engine, spec, rows_independent)?;
        if seen.rows.may_be_independent() {
            check_sizes(engine, &pool, &alone, tolerance)?;
        }
        let timings = time_batches(engine, spec, &pool)?;
        let report = report(spec, rows_independent, timings);
        return Ok(Report { graphs: engine.graphs(), warnings, ..report });
    }
    if let Some(input) = spec.inputs.iter().find(|input| input.any_rank) {
        return Err(LoadError::AnyRank { input: input.name.clone(), refusal });
    }
    let mut warnings = spec.warnings.clone();
    warnings.push(format!(
        "none of the rows tried in loading ran ({refusal}): each request is run alone, by a worker"
    ));
    let report = report(spec, spec.rows_independent.unwrap_or(false), Vec::new());
    Ok(Report { graphs: engine.graphs(), refusal, warnings, ..report })
}

/// The result of a run of trial rows; none where the network does not take them, and `refusal` says
/// why. A device that fails, and a run that had to be ended, are errors.
fn taken<T>(come: Result<T, EngineError>, refusal: &mut String) -> Result<Option<T>, LoadError> {
    match come {
        Ok(come) => Ok(Some(come)),
        Err(error @ EngineError::Device(_)) => Err(error.into()),
        Err(EngineError::Ended) => Err(LoadError::RowsTakeTooLong),
        Err(error) => {
            *refusal = error.to_string();
            Ok(None)
        }
    }
}

/// Gets a new engine ready for a model's batches, unless the model's rows depend on each other.
pub fn prepare(
    engine: &mut dyn Engine,
    spec: &ModelSpec,
    rows_independent: bool,
) -> Result<(), LoadError> {
    match spec.max_batch_size > 0 && !rows_independent {
        // A prepared engine runs rows of zeros behind a batch's own, which would change the
        // answers.
        true => Ok(()),
        false => Ok(engine.prepare(spec.max_batch_size)?),
    }
}

/// Checks that each row is answered in a batch as it was alone, before the engine was made ready.
/// The batches are of every size that the engine has been made ready for, full and short of one
/// row.
fn check_sizes(
    engine: &mut dyn Engine,
    pool: &Pool,
    alone: &[Vec<Tensor>],
    tolerance: f64,
) -> Result<(), LoadError> {
    for rows in engine.sizes().into_iter().flat_map(|size| [size, (size - 1).max(1)]) {
        let batch: Vec<_> = (0..rows).map(|row| row % alone.len()).collect();
        let together = pool.run(engine, &batch)?;
        for (place, &row) in batch.iter().enumerate() {
            let mut pairs = alone[row].iter().zip(&together);
            let is_same = |(one, many): (&Tensor, &Tensor)| match pool.has_batch {
                true => row_difference(one, many, place, rows) <= tolerance,
                false => one.shape == many.shape && scaled(one, many.elements()) <= tolerance,
            };
            if !pairs.all(is_same) {
                return Err(LoadError::RowDiffers { row: place, rows, tolerance });
            }
        }
    }
    Ok(())
}

/// The report that the timings give: pairs of a batch's rows and the microseconds of its run, by
/// rising rows.
fn report(spec: &ModelSpec, rows_independent: bool, timings: Vec<(usize, f64)>) -> Report {
    let row_cost = |&(rows, time): &(usize, f64)| time / rows as f64;
    let cheapest = timings.iter().map(row_cost).fold(f64::INFINITY, f64::min);
    let preferred = timings.iter().find(|timing| row_cost(timing) <= AS_GOOD * cheapest);
    let full_batch = match timings.last() {
        Some(&(rows, time)) => time / rows as f64 * spec.max_batch_size.max(1) as f64,
        None => f64::INFINITY,
    };
    Report {
        heavy: full_batch > HEAVY,
        rows_independent,
        preferred_batch_size: preferred.map_or(1, |&(rows, _)| rows),
        microseconds_per_batch: timings,
        ..Default::default()
    }
}

fn declared(spec: &ModelSpec, outputs: &[Tensor]) -> Result<(), LoadError> {
    let declared: Vec<_> = spec.outputs.iter().map(|output| output.dtype.name()).collect();
    let found: Vec<_> = outputs.iter().map(|output| output.dtype.name()).collect();
    match declared == found {
        true => Ok(()),
        false => Err(LoadError::OtherOutputs { declared, found }),
    }
}

/// The timings of batches of 1, 2, 4, ... rows up to the largest, while larger batches are worth a
/// trial: pairs of a batch's rows and the microseconds of its run.
fn time_batches(
    engine: &mut dyn Engine,
    spec: &ModelSpec,
    pool: &Pool,
) -> Result<Vec<(usize, f64)>, LoadError> {
    let largest = spec.max_batch_size.max(1);
    let begun = engine.now();
    let mut timings = Vec::new();
    let mut cheapest = f64::INFINITY;
    let mut rows = 1;
    loop {
        let batch: Vec<_> = (0..rows).map(|row| row % pool.rows).collect();
        let batch = pool.batch(&batch);
        let Some(mut time) = taken(time(engine, &batch), &mut String::new())? else { break };
        let row_cost = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
        let is_cheaper = |time| row_cost(time) * AS_GOOD < cheapest;
        if !is_cheaper(time) {
            // A second timing shows whether the network is slow, or something else ran just then.
            time = time.min(self::time(engine, &batch).unwrap_or(time));
        }
        timings.push((rows, time.as_secs_f64() * 1e6));
        let is_enough = match is_cheaper(time) {
            true => engine.now() - begun > WHILE_CHEAPER,
            false => time > WHILE_FLAT,
        };
        cheapest = cheapest.min(row_cost(time));
        if rows == largest || is_enough || pool.row_bytes() * rows * 2 > MOST_BYTES {
            break;
        }
        rows = (rows * 2).min(largest);
    }
    Ok(timings)
}

/// The time of the shortest of a few runs, at least two.
fn time(engine: &mut dyn Engine, batch: &[Tensor]) -> Result<Duration, EngineError> {
    let views: Vec<_> = batch.iter().map(|input| Some(input.view())).collect();
    let run = |engine: &mut dyn Engine| {
        let begun = engine.now();
        engine.run(&views)?;
        Ok(engine.now() - begun)
    };
    let begun = engine.now();
    let mut shortest = run(engine)?.min(run(engine)?);
    while engine.now() - begun + shortest < REPEAT_FOR {
        shortest = shortest.min(run(engine)?);
    }
    Ok(shortest)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::engine::Source;
    use crate::engine::fake::Fake;
    use crate::model::TensorSpec;
    use crate::model::device::{Device, GpuOptions};
    use crate::tensor::{DType, TensorView, aligned};

    fn spec(dims: &[i64], max_batch_size: usize) -> ModelSpec {
        let tensor = |name| TensorSpec::new(name, DType::Fp32, dims);
        ModelSpec {
            name: "fake".into(),
            version: 1,
            inputs: vec![tensor("x")],
            outputs: vec![tensor("y")],
            max_batch_size,
            ..Default::default()
        }
    }

    fn warm(fake: &Fake, max_batch_size: usize) -> Report {
        let engine = fake.engine(Device::Cpu, GpuOptions::default(), Instant::now());
        let mut engine = engine.expect("an engine");
        warm_up(&mut *engine, &spec(&[-1, 3], max_batch_size), &[], 0.0).expect("a report")
    }

    /// An engine that answers as [`Fake`] does, but refuses inputs for which `takes` is false.
    #[derive(Debug)]
    struct Picky {
        takes: fn(&[usize], &[f32]) -> bool,
        now: Instant,
    }

    fn picky(takes: fn(&[usize], &[f32]) -> bool) -> Picky {
        Picky { takes, now: Instant::now() }
    }

    impl Engine for Picky {
        fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError> {
            let TensorView { dtype, shape, data } = inputs[0].expect("no input is optional");
            self.now += Duration::from_micros(1);
            if !(self.takes)(shape, bytemuck::cast_slice(data)) {
                return Err(EngineError::Refused("not to my taste".into()));
            }
            Ok(vec![Tensor { dtype, shape: shape.to_vec(), data: aligned(data) }])
        }

        fn now(&self) -> Instant {
            self.now
        }
    }

    fn sample(row: f32) -> Sample {
        let data = aligned(bytemuck::cast_slice(&[row; 6]));
        let tensor = Tensor { dtype: DType::Fp32, shape: vec![2, 3], data };
        Sample { inputs: vec![tensor.clone()], outputs: vec![tensor] }
    }

    #[test]
    fn every_power_of_two_and_the_largest_batch_are_timed() {
        let report = warm(&Fake::new(3), 5);
        let sizes: Vec<_> = report.microseconds_per_batch.iter().map(|&(rows, _)| rows).collect();
        assert_eq!(sizes, [1, 2, 4, 5]);
        assert!(report.rows_independent && !report.heavy);
    }

    #[test]
    fn batches_grow_while_rows_get_cheaper() {
        let run = Duration::from_millis(1);
        let report = warm(&Fake::new(3).with_cost(run, Duration::ZERO), 64);
        assert_eq!(report.preferred_batch_size, 64);
        assert!(report.heavy);
    }

    #[test]
    fn batches_grow_though_a_run_takes_long() {
        let run = Duration::from_millis(60);
        let report = warm(&Fake::new(3).with_cost(run, Duration::ZERO), 2);
        assert_eq!(report.preferred_batch_size, 2);
    }

    #[test]
    fn long_runs_end_the_timing_and_foretell_a_full_batch() {
        let row = Duration::from_millis(2);
        let report = warm(&Fake::new(3).with_cost(Duration::ZERO, row), 1024);
        assert!(report.microseconds_per_batch.len() < 6, "{report:?}");
        assert!(report.heavy);
    }

    #[test]
    fn dependent_rows_are_found_out() {
        assert!(!warm(&Fake::new(3).with_dependent_rows(), 64).rows_independent);
    }

    #[test]
    fn what_has_no_batch_axis_is_run_whole() {
        let shapes = picky(|shape, _| shape == [2, 3]);
        let report = warm_up(&mut { shapes }, &spec(&[2, 3], 0), &[], 0.0).expect("a report");
        assert_eq!(report.microseconds_per_batch.len(), 1);
        assert!(!report.rows_independent && !report.heavy);
    }

    #[test]
    fn sizes_that_the_graph_leaves_open_are_guessed() {
        let report = warm_up(&mut picky(|shape, _| shape[1] == 64), &spec(&[-1, -1], 4), &[], 0.0);
        assert!(report.expect("a report").rows_independent);
    }

    #[test]
    fn golden_rows_serve_where_generated_ones_are_refused() {
        let mut engine = picky(|_, row| row.iter().all(|&x| x > 4.0));
        let samples = [sample(5.0), sample(6.0)];
        let report = warm_up(&mut engine, &spec(&[-1, -1], 4), &samples, 0.0).expect("a report");
        assert!(report.rows_independent && !report.heavy);
    }

    #[test]
    fn divisors_are_tried_where_zeros_are_refused() {
        let mut engine = picky(|_, row| row.iter().all(|&x| x > 0.0));
        let report = warm_up(&mut engine, &spec(&[-1, 3], 4), &[], 0.0).expect("a report");
        assert!(report.rows_independent && !report.heavy);
    }

    #[test]
    fn equal_rows_show_no_independence() {
        let mut engine = picky(|_, row| row.iter().all(|&x| x == 1.0));
        let report = warm_up(&mut engine, &spec(&[-1, 3], 4), &[], 0.0).expect("a report");
        assert!(!report.rows_independent && !report.heavy);
    }

    #[test]
    fn a_network_that_takes_nothing_is_served_with_care() {
        let report =
            warm_up(&mut picky(|_, _| false), &spec(&[-1, 3], 4), &[], 0.0).expect("a report");
        assert!(report.heavy && !report.rows_independent);
        assert_eq!((report.preferred_batch_size, report.microseconds_per_batch.len()), (1, 0));
        assert_eq!(report.refusal, "not to my taste");
    }

    #[test]
    fn a_device_that_fails_is_an_error() {
        let fake = Fake::new(3);
        let mut engine =
            fake.engine(Device::Cpu, GpuOptions::default(), Instant::now()).expect("an engine");
        let lost = [sample(Fake::DEVICE_LOST)];
        let error = warm_up(&mut *engine, &spec(&[-1, 3], 64), &lost, 0.0).expect_err("it is lost");
        assert_eq!(error.to_string(), "a row is a loss");
    }

    #[test]
    fn an_answer_that_the_graph_does_not_declare_is_an_error() {
        let mut spec = spec(&[-1, 3], 4);
        spec.outputs[0].dtype = DType::Int64;
        let error = warm_up(&mut picky(|_, _| true), &spec, &[], 0.0).expect_err("another type");
        let error = error.to_string();
        assert!(error.contains("INT64") && error.contains("FP32"), "{error}");
    }
}
