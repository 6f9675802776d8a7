//! Sessions: a file's graph loaded on a device, and run on the caller's own memory.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{self, ArenaExtendStrategy};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session};

use super::outside::{self, Weights};
use super::said::brief;
use super::value::{borrowed, copied};
use super::{environment, run_error};
use crate::engine::device::{Device, GpuOptions};
use crate::engine::{Engine, EngineError};
use crate::model::TensorSpec;
use crate::tensor::{Tensor, TensorView};

/// What every session of a model is made from.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Where it lies, or what it is called.
    pub path: PathBuf,
    /// All of it but for weights in files beside it.
    pub bytes: Vec<u8>,
    /// Those.
    pub weights: Weights,
}

/// Where a session is to run, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub device: Device,
    pub gpu: GpuOptions,
    /// The stream that all work of a GPU's session is put on, as an address; 0: one of its own.
    pub stream: usize,
    /// Runs can be captured as CUDA graphs.
    pub graphs: bool,
}

impl File {
    /// A session on one thread: the shards and lanes are the parallelism, so it needs none of its own.
    pub fn session(&self, place: Place) -> Result<Session, EngineError> {
        let environment = environment()?;
        let open = || {
            let builder = Session::builder(&environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_deterministic_compute(true)?
                .with_intra_threads(1)?
                .with_inter_threads(1)?
                .with_intra_op_spinning(false)?
                .with_inter_op_spinning(false)?
                // Patterns are kept for every shape ever seen, and cost a tenth where batch sizes vary.
                .with_memory_pattern(false)?;
            let builder = outside::give(builder, &self.weights, place.device == Device::Cpu)?;
            place.apply(builder)?.commit_from_memory(&self.bytes)
        };
        open().map_err(|error: ort::Error| self.fault(&brief(error.message())))
    }

    /// An error that names the file.
    pub fn fault(&self, reason: &dyn std::fmt::Display) -> EngineError {
        EngineError::Fault(format!("{}: {reason}", self.path.display()))
    }
}

impl Place {
    /// Has a session run there, or fail: never elsewhere.
    #[allow(unsafe_code)]
    fn apply(self, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let Device::Cuda(number) = self.device else { return Ok(builder) };
        let mut cuda = ep::CUDA::default()
            .with_device_id(number as i32)
            // A larger step than asked for is memory that no other model has.
            .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
            // The default tries every algorithm, and what it takes then depends on the moment.
            .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
            // The library's own default is on.
            .with_tf32(self.gpu.tf32)
            .with_cuda_graph(self.graphs);
        if self.gpu.memory_limit > 0 {
            cuda = cuda.with_memory_limit(self.gpu.memory_limit);
        }
        if self.stream != 0 {
            // SAFETY: whoever names a stream keeps it for longer than the session.
            cuda = unsafe { cuda.with_compute_stream(self.stream as *mut ()) };
        }
        let builder = builder.with_config_entry("session.record_ep_graph_assignment_info", "1")?;
        Ok(builder.with_execution_providers([cuda.build().error_on_failure()])?)
    }
}

/// How a run goes.
pub(super) struct Options(pub RunOptions);

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

impl Options {
    /// Of a run that captures nothing and replays nothing. Without synchronisation it is only begun:
    /// the library would wait for the whole GPU, and not for its own stream alone.
    pub fn eager(synchronise: bool) -> Result<Self, EngineError> {
        Self::new("-1", synchronise)
    }

    /// Of a run that replays the graph of this number, or captures it, if it is the first; only begun.
    pub fn of_graph(number: usize) -> Result<Self, EngineError> {
        Self::new(&number.to_string(), false)
    }

    fn new(graph: &str, synchronise: bool) -> Result<Self, EngineError> {
        let make = || {
            let mut options = RunOptions::new()?;
            options.set("gpu_graph_id", graph)?;
            if !synchronise {
                options.disable_device_sync()?;
            }
            Ok(Self(options))
        };
        make().map_err(|error: ort::Error| run_error(&error))
    }
}

/// Runs a graph on tensors where they are.
#[derive(Debug)]
pub(super) struct Plain {
    pub session: Session,
    /// Each with whether the graph takes it as a scalar, whatever axes of size 1 clients send.
    inputs: Vec<(String, bool)>,
    /// Of every run; none: the library's own.
    options: Option<Options>,
}

impl Plain {
    pub fn new(session: Session, inputs: &[TensorSpec], options: Option<Options>) -> Self {
        let named = |input: &TensorSpec| (input.name.clone(), input.dims.is_empty());
        Self { session, inputs: inputs.iter().map(named).collect(), options }
    }
}

impl Engine for Plain {
    fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError> {
        let mut values = Vec::with_capacity(inputs.len());
        for ((name, is_scalar), view) in self.inputs.iter().zip(inputs) {
            if let Some(mut view) = *view {
                if *is_scalar {
                    view.shape = &[];
                }
                values.push((Cow::Borrowed(&**name), borrowed(&view)?));
            }
        }
        let outputs = match &self.options {
            None => self.session.run(values),
            Some(options) => self.session.run_with_options(values, &options.0),
        };
        let outputs = outputs.map_err(|error| run_error(&error))?;
        (0..outputs.len()).map(|index| copied(&outputs[index])).collect()
    }
}
