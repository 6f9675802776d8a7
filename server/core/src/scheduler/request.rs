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
    /// The type of the elements.
    pub dtype: DType,
    /// The sizes of the axes; the batch axis comes first where there is one.
    pub shape: Vec<usize>,
    /// The elements: `product(shape) * dtype.size()` bytes, or `product(shape)` strings.
    pub data: Data,
}

/// The place of an input's elements.
#[derive(Clone, Debug)]
pub enum Data {
    /// The elements came with the request.
    Here(Bytes),
    /// The elements are in memory that the client shares, and are read when the batch is gathered.
    Shared(Box<Slice>),
}

impl Data {
    /// The length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Shared(slice) => slice.len(),
        }
    }

    /// The bytes of all elements, copied where they are in shared memory.
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
    /// The inputs in the model's order, not yet aligned; none where an optional one is left out.
    pub inputs: Vec<Option<Input>>,
    /// The request's rows; 1 where the model has no batch axis.
    pub rows: usize,
}

/// A checked request on its way to the engine.
#[derive(Debug)]
pub struct Request {
    /// The inputs in the model's order; none where an optional one is left out.
    pub inputs: Vec<Option<Input>>,
    /// The room that the request takes in the queue.
    pub size: Size,
    /// The time at which the answer is of no more use; none: never.
    pub deadline: Option<Instant>,
    /// The time at which the request has waited for too long; none: never.
    pub expiry: Option<Instant>,
    /// The most bytes that the request's outputs may have.
    pub outputs: usize,
    /// The time at which the checked request was handed to the scheduler.
    pub queued: Instant,
    /// The channel to the caller; closed where the caller waits no more.
    pub reply: oneshot::Sender<Result<Prediction>>,
}

/// The engine's answer to one request.
#[derive(Debug)]
pub struct Prediction {
    /// The rows of this request in all outputs of the graph, in the graph's order.
    pub outputs: Vec<Tensor>,
    /// The request's rows.
    pub rows: usize,
    /// The times that each stage took.
    pub timings: Timings,
}
