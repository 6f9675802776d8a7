//! The seam between the request path and what runs a network.

use std::fmt;
use std::time::{Duration, Instant};

use crate::model::TensorSpec;
use crate::model::device::{Device, GpuOptions};
use crate::tensor::{Tensor, TensorView};

#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod onnx;
pub mod reaper;
pub mod thread;
pub mod watchdog;

/// What a run may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// When it is ended, if it still goes on; none: never.
    pub until: Option<Instant>,
    /// How long after its beginning it is ended.
    pub time: Duration,
    /// The most bytes that it may allocate.
    pub memory: usize,
    /// The most bytes of all its outputs.
    pub outputs: usize,
}

impl Default for Bounds {
    /// No bounds.
    fn default() -> Self {
        Self { until: None, time: Duration::MAX, memory: usize::MAX, outputs: usize::MAX }
    }
}

impl Bounds {
    /// When a run that begins now is to be ended.
    pub fn end(&self) -> Instant {
        let end = watchdog::from_now(self.time);
        self.until.map_or(end, |until| until.min(end))
    }
}

/// Runs one network. Owned by one thread at a time, so it needs no lock.
pub trait Engine: Send + fmt::Debug {
    /// Runs the network once.
    ///
    /// `inputs` are in the source's order, contiguous and aligned for their dtype; none where an
    /// optional one is left out. The outputs are all of the graph's, in its order.
    fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError>;

    /// Bounds every run from now on, as far as the engine can; until then nothing does.
    fn bound(&mut self, _bounds: Bounds) {}

    /// Gets ready for batches of up to so many rows, which are known not to depend on each other: from
    /// now on a batch may be run with rows of zeros behind its own. 0: there is no batch axis.
    ///
    /// What is made ready may belong to this thread: the engine is run on it from now on. An error
    /// is the engine's end.
    fn prepare(&mut self, _most_rows: usize) -> Result<(), EngineError> {
        Ok(())
    }

    /// Whether it can still run, as far as that is seen without a run. An error is its end.
    fn check(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// The sizes, in rows and rising, that it has been made ready for; batches in between are run
    /// as the next of them. Empty: every batch is run as it is.
    fn sizes(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Whether batches are replayed as CUDA graphs: `on`, `off: ` and why, or nothing where that is
    /// no question.
    fn graphs(&self) -> String {
        String::new()
    }

    /// The time, as what it costs is measured before it serves. A fake has a clock of its own, which
    /// knows no other work on the machine.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// A network that can be run by many threads: each asks for an engine of its own.
pub trait Source: Send + Sync + fmt::Debug {
    /// What the graph takes.
    fn inputs(&self) -> &[TensorSpec];
    /// What the graph gives.
    fn outputs(&self) -> &[TensorSpec];
    /// Whether a run may take as long as the values of its inputs say: sizes alone do not bound it.
    fn is_open(&self) -> bool {
        false
    }
    /// One more engine, on this device, made until then or not at all.
    fn engine(
        &self,
        device: Device,
        gpu: GpuOptions,
        until: Instant,
    ) -> Result<Box<dyn Engine>, EngineError>;
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The network does not take these values, such as an index out of range.
    Refused(String),
    /// The device failed: what the engine holds there is lost, and the engine with it.
    Device(String),
    /// The run was ended, because it took too long.
    Ended,
    /// The run was ended, because it was to allocate too much.
    Memory {
        /// Bytes that it was to allocate, at least.
        needed: usize,
        /// The most that it may allocate, by [`Bounds::memory`].
        limit: usize,
    },
    /// The outputs are too long.
    TooLarge {
        /// Bytes of all outputs together.
        found: usize,
        /// The most that they may have, by [`Bounds::outputs`].
        limit: usize,
    },
    /// Anything else.
    Fault(String),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) | Self::Device(text) | Self::Fault(text) => f.write_str(text),
            Self::Ended => f.write_str("it took longer than --max-run-seconds, and was ended"),
            Self::Memory { needed, limit } => write!(
                f,
                "expected it to allocate at most {limit} bytes, as --model-memory-limit says, got \
                 {needed}"
            ),
            Self::TooLarge { found, limit } => {
                write!(f, "expected outputs of at most {limit} bytes, got {found}")
            }
        }
    }
}

impl std::error::Error for EngineError {}
