//! Runs a batch: gather the rows, run the engine, split the answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{Engine, EngineError};
use crate::error::{Error, Result};
use crate::metrics::ModelMetrics;
use crate::model::Model;
use crate::queue::{Answer, Job};
use crate::tensor::{Tensor, TensorView};

/// An engine with the buffers its batches are gathered in.
#[derive(Debug)]
pub struct Runner {
    engine: Box<dyn Engine>,
    model: Arc<Model>,
    metrics: Arc<ModelMetrics>,
    buffers: Vec<Buffer>,
}

/// One input of a batch; its memory is kept from batch to batch.
#[derive(Debug, Default)]
struct Buffer {
    /// In words of the largest element, so that every dtype is aligned.
    words: Vec<u64>,
    shape: Vec<usize>,
}

impl Runner {
    /// A runner of this engine.
    pub fn new(engine: Box<dyn Engine>, model: Arc<Model>, metrics: Arc<ModelMetrics>) -> Self {
        let buffers = model.spec.inputs.iter().map(|_| Buffer::default()).collect();
        Self { engine, model, metrics, buffers }
    }

    /// Runs these requests as one and answers each. When a batch of several fails, each is run
    /// again alone, so that only the culprit gets an error.
    pub fn run(&mut self, batch: &mut Vec<Job>) {
        let rows = batch.iter().map(|job| job.rows).sum();
        let started = Instant::now();
        match self.outputs(batch, rows) {
            Ok(outputs) => {
                let compute = started.elapsed();
                self.metrics.batch(rows, compute);
                self.answer(batch, &outputs, rows, started, compute);
            }
            Err(error) if batch.len() == 1 => self.refuse(batch, &error),
            Err(_) => {
                for job in batch.drain(..) {
                    self.run(&mut vec![job]);
                }
            }
        }
    }

    /// The engine's outputs for all rows of the batch. A panic is a fault like any other.
    fn outputs(&mut self, batch: &[Job], rows: usize) -> Result<Vec<Tensor>, EngineError> {
        for (input, buffer) in self.buffers.iter_mut().enumerate() {
            if batch.len() > 1 || !batch[0].inputs[input].is_aligned() {
                buffer.gather(batch, input, rows);
            }
        }
        let views: Vec<_> = self
            .buffers
            .iter()
            .zip(&batch[0].inputs)
            .map(|(buffer, tensor)| match batch.len() {
                1 if tensor.is_aligned() => tensor.view(),
                _ => buffer.view(tensor),
            })
            .collect();
        let engine = &mut self.engine;
        let outputs = catch_unwind(AssertUnwindSafe(|| engine.run(&views)))
            .unwrap_or_else(|panic| Err(EngineError::Fault(panic_text(&*panic))))?;
        match outputs.iter().find(|output| output.shape.first() != Some(&rows)) {
            Some(output) if batch.len() > 1 => Err(EngineError::Fault(format!(
                "expected {rows} rows in every output, got the shape {:?}",
                output.shape
            ))),
            _ => Ok(outputs),
        }
    }

    fn answer(
        &self,
        batch: &mut Vec<Job>,
        outputs: &[Tensor],
        batch_rows: usize,
        started: Instant,
        compute: Duration,
    ) {
        let alone = batch.len() == 1;
        let mut first_row = 0;
        for job in batch.drain(..) {
            let queue = started.duration_since(job.queued);
            self.metrics.queued(queue);
            let share = |output: &Tensor| match alone {
                true => output.clone(),
                false => rows_of(output, first_row, job.rows),
            };
            let outputs = outputs.iter().map(share).collect();
            first_row += job.rows;
            let _ = job.reply.send(Ok(Answer { outputs, queue, compute, batch_rows }));
        }
    }

    fn refuse(&self, batch: &mut Vec<Job>, error: &EngineError) {
        let model = self.model.spec.name.clone();
        tracing::warn!(%model, version = self.model.spec.version, %error, "a request failed");
        let error = match error {
            EngineError::Refused(_) => Error::Refused { model },
            EngineError::Fault(_) => Error::Fault { model },
        };
        for job in batch.drain(..) {
            let _ = job.reply.send(Err(error.clone()));
        }
    }
}

impl Buffer {
    /// Puts the rows of all requests one after the other.
    fn gather(&mut self, batch: &[Job], input: usize, rows: usize) {
        let size: usize = batch.iter().map(|job| job.inputs[input].data.len()).sum();
        self.words.resize(size.div_ceil(8), 0);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        let mut end = 0;
        for job in batch {
            let data = &job.inputs[input].data;
            bytes[end..end + data.len()].copy_from_slice(data);
            end += data.len();
        }
        self.shape.clone_from(&batch[0].inputs[input].shape);
        if batch.len() > 1 {
            self.shape[0] = rows;
        }
    }

    fn view(&self, like: &Tensor) -> TensorView<'_> {
        let size = self.shape.iter().product::<usize>() * like.dtype.size();
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        TensorView { dtype: like.dtype, shape: &self.shape, data: &bytes[..size] }
    }
}

/// Rows of an output, sharing its memory.
fn rows_of(output: &Tensor, first: usize, rows: usize) -> Tensor {
    let row_size = output.data.len() / output.shape[0];
    let mut shape = output.shape.clone();
    shape[0] = rows;
    let data = output.data.slice(first * row_size..(first + rows) * row_size);
    Tensor { dtype: output.dtype, shape, data }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_default())
}
