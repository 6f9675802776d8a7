//! Sessions: a file's graph loaded on a device, and run on the caller's own memory.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{self, ArenaExtendStrategy};
use ort::session::builder::{GraphOptimizationLevel, LoadCanceler, SessionBuilder};
use ort::session::{RunOptions, Session};

use super::errors::run_error;
use super::heap;
use super::outside::{self, Weights};
use super::runtime::environment;
use super::said::brief;
use super::value::{borrowed, copied, size};
use crate::engine::thread::Unfinished;
use crate::engine::watchdog::{Stop, Watch};
use crate::engine::{Bounds, Engine, EngineError};
use crate::model::TensorSpec;
use crate::model::device::{Device, GpuOptions};
use crate::tensor::{Tensor, TensorView};

/// The content that every session of a model is made from.
#[derive(Debug, Default)]
pub(super) struct File {
    /// The file's path, or a name where the content is on no disk.
    pub path: PathBuf,
    /// The content, without the weights in files beside it.
    pub bytes: Vec<u8>,
    /// The weights in files beside it.
    pub weights: Weights,
}

/// The place where a session is to run, and how it runs there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub device: Device,
    pub gpu: GpuOptions,
    /// The address of the stream that all work of a GPU's session is put on; 0: a stream of the
    /// session's own.
    pub stream: usize,
    /// Whether runs can be captured as CUDA graphs.
    pub graphs: bool,
}

impl File {
    /// A session that runs on the thread of its caller: the shards and workers are the parallelism,
    /// so a session needs no threads of its own. Making it is given up at `until`, as soon as the
    /// library looks whether it is to end.
    pub fn session(&self, place: Place, until: Instant) -> Result<Session, EngineError> {
        let environment = environment()?;
        let build = || {
            let builder = Session::builder(&environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_deterministic_compute(true)?
                .with_intra_threads(1)?
                .with_inter_threads(1)?
                .with_intra_op_spinning(false)?
                .with_inter_op_spinning(false)?
                // Memory patterns are kept for every shape ever seen, and cost a tenth where batch
                // sizes vary.
                .with_memory_pattern(false)?
                .with_config_entry("session.use_env_allocators", "1")?;
            let builder = outside::give(builder, &self.weights, place.device == Device::Cpu)?;
            place.apply(builder)
        };
        let fault = |error: ort::Error| self.fault(&brief(error.message()));
        let mut builder = build().map_err(fault)?;
        let watch = Watch::new(builder.canceler());
        match watch.run(until, || builder.commit_from_memory(&self.bytes)) {
            (Ok(session), _) => Ok(session),
            (Err(_), true) => Err(self.fault(&Unfinished::Late)),
            (Err(error), false) => Err(fault(error)),
        }
    }

    /// An error that names the file.
    pub fn fault(&self, reason: &dyn std::fmt::Display) -> EngineError {
        EngineError::Fault(format!("{}: {reason}", self.path.display()))
    }
}

impl Place {
    /// Makes a session run at this place, or fail where it cannot: it never runs elsewhere.
    #[allow(unsafe_code)]
    fn apply(self, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let Device::Cuda(number) = self.device else { return Ok(builder) };
        let mut cuda = ep::CUDA::default()
            .with_device_id(number as i32)
            // A step that is larger than asked for takes memory from other models.
            .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
            // The default search tries every algorithm, and which one it picks depends on the
            // moment.
            .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
            // TF32 is set, for the library's own default is on.
            .with_tf32(self.gpu.tf32)
            .with_cuda_graph(self.graphs);
        if self.gpu.memory_limit > 0 {
            cuda = cuda.with_memory_limit(self.gpu.memory_limit);
        }
        if self.stream != 0 {
            // SAFETY: the caller that names a stream keeps it for longer than the session.
            cuda = unsafe { cuda.with_compute_stream(self.stream as *mut ()) };
        }
        let builder = builder.with_config_entry("session.record_ep_graph_assignment_info", "1")?;
        Ok(builder.with_execution_providers([cuda.build().error_on_failure()])?)
    }
}

impl Stop for LoadCanceler {
    fn stop(&self) {
        let _ = self.cancel();
    }

    fn reset(&self) {}
}

impl Stop for Arc<RunOptions> {
    fn stop(&self) {
        let _ = self.terminate();
    }

    fn reset(&self) {
        let _ = self.unterminate();
    }
}

/// The options of a run, and the watch that ends it.
pub(super) struct Options {
    pub run: Arc<RunOptions>,
    watch: Arc<Watch>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

impl Options {
    /// Options of a run on the CPU.
    pub fn plain() -> Result<Self, EngineError> {
        RunOptions::new().map(Self::of).map_err(|error| run_error(&error))
    }

    /// Does a run with these options, and holds it to `bounds`.
    pub fn bounded<T>(
        &self,
        bounds: &Bounds,
        run: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let watched = || self.watch.run(bounds.end(), run);
        match heap::within(bounds.memory, watched) {
            ((Ok(came), _), _) => Ok(came),
            ((Err(_), _), Some(needed)) => {
                Err(EngineError::Memory { needed, limit: bounds.memory })
            }
            ((Err(error @ EngineError::Device(_)), _), None) => Err(error),
            ((Err(_), true), None) => Err(EngineError::Ended),
            ((Err(error), false), None) => Err(error),
        }
    }

    fn of(options: RunOptions) -> Self {
        let run = Arc::new(options);
        Self { watch: Watch::new(run.clone()), run }
    }

    /// Options of a run that captures nothing and replays nothing. Without `synchronise` the run is
    /// only begun, for the library would wait for the whole GPU, and not for its own stream alone.
    pub fn eager(synchronise: bool) -> Result<Self, EngineError> {
        Self::new("-1", synchronise)
    }

    /// Options of a run that replays the CUDA graph of this number, or captures it the first time.
    /// The run is only begun.
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
            Ok(Self::of(options))
        };
        make().map_err(|error: ort::Error| run_error(&error))
    }
}

/// An engine that runs a graph on its caller's own tensors.
#[derive(Debug)]
pub(super) struct Plain {
    pub session: Session,
    /// The names of the inputs, each with whether the graph takes a scalar, whatever axes of size 1
    /// clients send.
    inputs: Vec<(String, bool)>,
    options: Options,
    pub bounds: Bounds,
}

impl Plain {
    pub fn new(session: Session, inputs: &[TensorSpec], options: Options) -> Self {
        let is_scalar = |input: &TensorSpec| input.dims.is_empty() && !input.any_rank;
        let named = |input: &TensorSpec| (input.name.clone(), is_scalar(input));
        let (inputs, bounds) = (inputs.iter().map(named).collect(), Bounds::default());
        Self { session, inputs, options, bounds }
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
        let Self { session, options, bounds, .. } = self;
        let outputs = options.bounded(bounds, || {
            session.run_with_options(values, &options.run).map_err(|error| run_error(&error))
        })?;
        let sizes = (0..outputs.len()).map(|index| size(&outputs[index]));
        let (found, limit) = (sizes.fold(0, usize::saturating_add), bounds.outputs);
        if found > limit {
            return Err(EngineError::TooLarge { found, limit });
        }
        (0..outputs.len()).map(|index| copied(&outputs[index])).collect()
    }

    fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }
}
