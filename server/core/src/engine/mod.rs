//! The seam between the request path and what runs a network.

use std::fmt;

use crate::model::TensorSpec;
use crate::tensor::{Tensor, TensorView};

pub mod device;
pub mod fake;
pub mod onnx;
mod weights;

/// Runs one network. Owned by one thread at a time, so it needs no lock.
pub trait Engine: Send + fmt::Debug {
    /// Runs the network once.
    ///
    /// `inputs` are in the source's order, contiguous and aligned for their dtype; none where an
    /// optional one is left out. The outputs are all of the graph's, in its order.
    fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError>;
}

/// A network that can be run by many threads: each asks for an engine of its own.
pub trait Source: Send + fmt::Debug {
    /// What the graph takes and gives.
    fn inputs(&self) -> &[TensorSpec];
    /// What the graph gives.
    fn outputs(&self) -> &[TensorSpec];
    /// One more engine. The first is the one that opening the file has made.
    fn engine(&mut self) -> Result<Box<dyn Engine>, EngineError>;
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// The network does not take these values, such as an index out of range.
    Refused(String),
    /// Anything else.
    Fault(String),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) | Self::Fault(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for EngineError {}
