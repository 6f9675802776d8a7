//! The seam between the request path and the library that runs a network.

use std::fmt;
use std::time::{Duration, Instant};

use crate::model::TensorSpec;
use crate::model::device::{Device, GpuOptions};
use crate::tensor::{Tensor, TensorView};

#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod onnx;
pub mod reaper;
pub mod row_by_row;
pub mod thread;
pub mod watchdog;

/// The bounds of a run: its time, its memory and its outputs.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The time at which the run is ended, if it still goes on; none: `time` alone ends it.
    pub until: Option<Instant>,
    /// The longest time that the run may take.
    pub time: Duration,
    /// The most bytes that the run may allocate on the host.
    pub memory: usize,
    /// The most bytes of all outputs together.
    pub outputs: usize,
}

impl Default for Bounds {
    /// Bounds that limit nothing.
    fn default() -> Self {
        Self { until: None, time: Duration::MAX, memory: usize::MAX, outputs: usize::MAX }
    }
}

impl Bounds {
    /// The time at which a run that begins now is to be ended.
    pub fn end(&self) -> Instant {
        let end = watchdog::from_now(self.time);
        self.until.map_or(end, |until| until.min(end))
    }
}

/// An engine runs one network. One thread at a time owns it, so it needs no lock.
pub trait Engine: Send + fmt::Debug {
    /// Runs the network once.
    ///
    /// `inputs` are in the source's order, contiguous and aligned for their dtype; none where an
    /// optional input is left out. The returned tensors are all of the graph's outputs, in its
    /// order.
    fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError>;

    /// Sets the bounds of every run from now on, as far as the engine can keep them. Runs before
    /// the first call are not bounded.
    fn bound(&mut self, _bounds: Bounds) {}

    /// Gets ready for batches of up to `most_rows` rows, which are known not to depend on each
    /// other: from now on a batch may be run with rows of zeros behind its own. 0: there is no
    /// batch axis.
    ///
    /// The things made ready may belong to this thread, so the engine is run on it from now on.
    /// After an error the engine is of no use.
    fn prepare(&mut self, _most_rows: usize) -> Result<(), EngineError> {
        Ok(())
    }

    /// Checks that the engine can still run, as far as that is seen without a run. After an error
    /// the engine is of no use.
    fn check(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// The batch sizes that the engine has been made ready for, in rows and rising; a batch in
    /// between is run as the next size. Empty: every batch is run as it is.
    fn sizes(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Whether batches are replayed as CUDA graphs: `on`, or `off: ` and the reason; empty on a
    /// device that has no CUDA graphs.
    fn graphs(&self) -> String {
        String::new()
    }

    /// The clock by which the engine's runs are timed at warm-up. A fake has a clock of its own, so
    /// that other work on the machine does not change what its runs cost.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// A network that many threads can run, each with an engine of its own.
pub trait Source: Send + Sync + fmt::Debug {
    /// The inputs that the graph takes.
    fn inputs(&self) -> &[TensorSpec];
    /// The outputs that the graph gives.
    fn outputs(&self) -> &[TensorSpec];
    /// Whether a run may take as long as the values of its inputs say, so that their sizes alone do
    /// not bound it.
    fn is_open(&self) -> bool {
        false
    }
    /// Another engine, on this device; an error where it is not made by `until`.
    fn engine(
        &self,
        device: Device,
        gpu: GpuOptions,
        until: Instant,
    ) -> Result<Box<dyn Engine>, EngineError>;
}

/// The reason why an engine failed, or a run of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The network does not take these values, such as an index out of range.
    Refused(String),
    /// The device failed: the engine's memory there is lost, and the engine with it.
    Device(String),
    /// The run was ended, because it took too long.
    Ended,
    /// The run was ended, because it was to allocate too much.
    Memory {
        /// The bytes that the run was to hold, at least.
        needed: usize,
        /// The most bytes that the run may hold, by [`Bounds::memory`].
        limit: usize,
    },
    /// The outputs are too long.
    TooLarge {
        /// The bytes of all outputs together.
        found: usize,
        /// The most bytes that the outputs may have, by [`Bounds::outputs`].
        limit: usize,
    },
    /// The engine failed for another reason.
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
