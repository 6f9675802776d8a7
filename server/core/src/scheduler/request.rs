//! A checked request on its way to the engine, and its answer.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::metrics::timings::Timings;
use crate::scheduler::limits::Size;
use crate::shared_memory::Slice;
use crate::tensor::{DType, Tensor};

/// An input of a request.
#[derive(Clone, Debug)]
pub struct Input {
    /// The type of its elements.
    pub dtype: DType,
    /// The sizes, the batch first where there is one.
    pub shape: Vec<usize>,
    /// `product(shape) * dtype.size()` bytes, or as many strings.
    pub data: Data,
}

/// Where the elements of an input are.
#[derive(Clone, Debug)]
pub enum Data {
    /// In the request.
    Here(Bytes),
    /// In memory that the client shares; read when the batch is gathered.
    Shared(Box<Slice>),
}

impl Data {
    /// In bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Shared(slice) => slice.len(),
        }
    }

    /// All of them, wherever they are.
    pub fn bytes(&self) -> Result<Bytes> {
        match self {
            Self::Here(bytes) => Ok(bytes.clone()),
            Self::Shared(slice) => {
                let mut bytes = vec![0; slice.len()];
                slice.read(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }
}

/// A request that fits its model.
#[derive(Debug)]
pub struct ValidRequest {
    /// In the model's order, not yet aligned; none where an optional one is left out.
    pub inputs: Vec<Option<Input>>,
    /// 1 where the model has no batch axis.
    pub rows: usize,
}

/// A checked request on its way to the engine.
#[derive(Debug)]
pub struct Request {
    /// In the model's order; none where an optional one is left out.
    pub inputs: Vec<Option<Input>>,
    /// What it takes of the queue.
    pub size: Size,
    /// When the answer is of no more use.
    pub deadline: Option<Instant>,
    /// When it has waited for too long.
    pub expiry: Option<Instant>,
    /// The most bytes of its outputs.
    pub outputs: usize,
    /// When it was checked.
    pub queued: Instant,
    /// Who waits for the answer; closed where nobody does any more.
    pub reply: oneshot::Sender<Result<Prediction>>,
}

/// What the engine gave for one request.
#[derive(Debug)]
pub struct Prediction {
    /// All outputs of the graph, in its order; this request's rows.
    pub outputs: Vec<Tensor>,
    /// Rows of the request.
    pub rows: usize,
    /// How long it took.
    pub timings: Timings,
}
