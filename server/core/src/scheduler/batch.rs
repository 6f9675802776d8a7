//! A batch's run: its rows are gathered, the engine runs them, and the outputs are split by
//! request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{Bounds, Engine, EngineError};
use crate::error::{Error, Result};
use crate::metrics::model::ModelMetrics;
use crate::metrics::timings::Timings;
use crate::model::{Model, ModelSpec};
use crate::panics::panic_text;
use crate::scheduler::limits::QueueLimits;
use crate::scheduler::request::{Data, Input, Prediction, Request};
use crate::tensor::{Rows, Tensor, TensorView, Word};

/// The buffers in which the batches of one engine are gathered, and the metrics that count its
/// runs.
#[derive(Debug)]
pub struct Runner {
    model: Arc<Model>,
    metrics: Arc<ModelMetrics>,
    queue_limits: Arc<QueueLimits>,
    buffers: Vec<Buffer>,
}

/// The buffer of one input of a batch; its memory is kept from batch to batch.
#[derive(Debug, Default)]
struct Buffer {
    /// The bytes, in words, so that every dtype is aligned.
    words: Vec<Word>,
    /// The bytes of `words` that are in use.
    size: usize,
    shape: Vec<usize>,
}

/// The reason why a batch has no answer.
#[derive(Debug)]
enum Failure {
    /// An input could not be read.
    Input(Error),
    /// The engine gave no answer.
    Engine(EngineError),
    /// The engine panicked, with these words.
    Panic(String),
}

impl Failure {
    /// An error where the engine should be used no more, with the reason. A panic is one, since
    /// what the engine holds after it is not known.
    fn of_engine(&self) -> Result<(), String> {
        match self {
            Self::Panic(text) | Self::Engine(EngineError::Device(text)) => Err(text.clone()),
            Self::Input(_) | Self::Engine(_) => Ok(()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Input(error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// A view of an input's own bytes, which can be run without a copy; none where they are in shared
/// memory or not aligned.
fn in_place(input: &Option<Input>) -> Option<TensorView<'_>> {
    let Some(Input { dtype, shape, data: Data::Here(data) }) = input else {
        return None;
    };
    let view = TensorView { dtype: *dtype, shape, data };
    view.is_aligned().then_some(view)
}

impl Runner {
    /// A runner for any engine of this model.
    pub fn new(
        model: Arc<Model>,
        metrics: Arc<ModelMetrics>,
        queue_limits: Arc<QueueLimits>,
    ) -> Self {
        let buffers = model.spec.inputs.iter().map(|_| Buffer::default()).collect();
        Self { model, metrics, queue_limits, buffers }
    }

    /// Runs these requests as one batch and answers each. When a batch of several fails, each is
    /// run again alone, so that only the culprit gets an error. Where the device has failed, all
    /// requests get the error at once. An error says why the engine should be used no more.
    pub fn run(&mut self, engine: &mut dyn Engine, batch: &mut Vec<Request>) -> Result<(), String> {
        let rows = batch.iter().map(|request| request.size.rows).sum();
        let started = Instant::now();
        engine.bound(self.bounds(batch));
        let failure = match self.outputs(engine, batch, rows) {
            Ok((outputs, gathered)) => {
                self.reply(batch, &outputs, rows, started, gathered);
                return Ok(());
            }
            Err(failure) => failure,
        };
        let mut verdict = failure.of_engine();
        if batch.len() == 1 || matches!(failure, Failure::Engine(EngineError::Device(_))) {
            self.refuse(batch, failure);
            return verdict;
        }
        let now = Instant::now();
        for request in batch.drain(..) {
            if request.deadline.is_some_and(|deadline| deadline <= now) {
                let _ = request.reply.send(Err(Error::DeadlineExceeded));
                continue;
            }
            let ran = self.run(engine, &mut vec![request]);
            verdict = verdict.and(ran);
        }
        verdict
    }

    /// The bounds of a run of these requests. The run is ended at the last of their deadlines, for
    /// no caller waits after that; a request without a deadline leaves only the time limit of a
    /// run.
    fn bounds(&self, batch: &[Request]) -> Bounds {
        let limits = &self.model.spec.limits;
        let mut deadlines = batch.iter().map(|request| request.deadline);
        let last = deadlines.try_fold(None, |last, deadline| deadline.map(|it| last.max(Some(it))));
        Bounds {
            until: last.flatten(),
            time: limits.run_time,
            memory: limits.run_memory,
            outputs: batch.iter().map(|request| request.outputs).fold(0, usize::saturating_add),
        }
    }

    /// The engine's outputs for all rows of the batch, and the time at which its run began. A panic
    /// of the engine is a failure like any other.
    fn outputs(
        &mut self,
        engine: &mut dyn Engine,
        batch: &[Request],
        rows: usize,
    ) -> Result<(Vec<Tensor>, Instant), Failure> {
        for (input, buffer) in self.buffers.iter_mut().enumerate() {
            if batch.len() > 1 || in_place(&batch[0].inputs[input]).is_none() {
                buffer.gather(batch, input, rows)?;
            }
        }
        let views: Vec<_> = self
            .buffers
            .iter()
            .zip(&batch[0].inputs)
            .map(|(buffer, input)| match in_place(input) {
                Some(view) if batch.len() == 1 => Some(view),
                _ => Some(buffer.view(input.as_ref()?)),
            })
            .collect();
        let gathered = Instant::now();
        let outputs = catch_unwind(AssertUnwindSafe(|| engine.run(&views)))
            .map_err(|panic| Failure::Panic(panic_text(&*panic)))??;
        match outputs.iter().find(|output| output.shape.first() != Some(&rows)) {
            Some(output) if batch.len() > 1 => Err(Failure::Engine(EngineError::Fault(format!(
                "expected {rows} rows in every output, got the shape {:?}",
                output.shape
            )))),
            _ => Ok((outputs, gathered)),
        }
    }

    fn reply(
        &self,
        batch: &mut Vec<Request>,
        outputs: &[Tensor],
        batch_rows: usize,
        started: Instant,
        gathered: Instant,
    ) {
        let ran = Instant::now();
        let shares = shares(batch, outputs);
        let mut timings = Timings {
            queue: Duration::ZERO,
            input: gathered.duration_since(started),
            infer: ran.duration_since(gathered),
            output: ran.elapsed(),
            batch_rows,
        };
        self.queue_limits.estimate.ran(batch_rows, timings.infer);
        self.metrics.batch(&timings);
        for (request, outputs) in batch.drain(..).zip(shares) {
            timings.queue = started.duration_since(request.queued);
            let _ =
                request.reply.send(Ok(Prediction { outputs, rows: request.size.rows, timings }));
        }
    }

    fn log(&self, error: &str) {
        let ModelSpec { name, version, .. } = &self.model.spec;
        tracing::warn!(model = %name, version, error, "a request failed");
    }

    fn refuse(&self, batch: &mut Vec<Request>, failure: Failure) {
        let ModelSpec { name, limits, .. } = &self.model.spec;
        let model = name.clone();
        let is_late =
            |request: &Request| request.deadline.is_some_and(|time| time <= Instant::now());
        let error = match failure {
            Failure::Input(error) => error,
            Failure::Engine(EngineError::Refused(text)) => {
                self.log(&text);
                Error::Refused { model }
            }
            Failure::Engine(EngineError::Ended) if batch.iter().all(is_late) => {
                Error::DeadlineExceeded
            }
            Failure::Engine(error @ EngineError::Ended) => {
                self.log(&error.to_string());
                Error::RunTooLong { model, limit: limits.run_time }
            }
            Failure::Engine(error @ EngineError::Memory { limit, .. }) => {
                self.log(&error.to_string());
                Error::RunTooLarge { model, limit }
            }
            Failure::Engine(EngineError::TooLarge { found, limit }) => {
                Error::ReplyTooLarge { found, limit }
            }
            Failure::Engine(EngineError::Device(text) | EngineError::Fault(text))
            | Failure::Panic(text) => {
                self.log(&text);
                Error::Fault { model }
            }
        };
        for request in batch.drain(..) {
            let _ = request.reply.send(Err(error.clone()));
        }
    }
}

/// The outputs of each request: its own rows; the whole outputs where it ran alone.
fn shares(batch: &[Request], outputs: &[Tensor]) -> Vec<Vec<Tensor>> {
    if batch.len() == 1 {
        return vec![outputs.to_vec()];
    }
    let mut outputs: Vec<_> = outputs.iter().map(Rows::of).collect();
    let share =
        |request: &Request| outputs.iter_mut().map(|rows| rows.next(request.size.rows)).collect();
    batch.iter().map(share).collect()
}

impl Buffer {
    /// Copies one input of all requests into the buffer, one after the other. An input that the
    /// requests leave out is not copied.
    fn gather(&mut self, batch: &[Request], input: usize, rows: usize) -> Result<()> {
        let inputs = || batch.iter().filter_map(|request| request.inputs[input].as_ref());
        let Some(first) = inputs().next() else {
            return Ok(());
        };
        self.size = inputs().map(|input| input.data.len()).sum();
        self.words.resize(self.size.div_ceil(size_of::<Word>()), 0);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        let mut end = 0;
        for Input { data, .. } in inputs() {
            let place = &mut bytes[end..end + data.len()];
            match data {
                Data::Here(data) => place.copy_from_slice(data),
                Data::Shared(slice) => slice.read(place)?,
            }
            end += data.len();
        }
        self.shape.clone_from(&first.shape);
        if batch.len() > 1 {
            self.shape[0] = rows;
        }
        Ok(())
    }

    fn view(&self, like: &Input) -> TensorView<'_> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        TensorView { dtype: like.dtype, shape: &self.shape, data: &bytes[..self.size] }
    }
}
