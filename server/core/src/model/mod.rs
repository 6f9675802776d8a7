//! A model: the specification that requests are checked against, and the warm-up's report.

use std::time::Duration;

use crate::model::device::Device;
use crate::model::head::Head;
use crate::proto::inference::ModelConfig;
use crate::tensor::DType;

pub mod catalog;
pub mod control;
pub mod device;
pub mod head;
pub mod triton_config;

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// The name in the graph.
    pub name: String,
    /// The type of the elements.
    pub dtype: DType,
    /// The sizes of the axes, the batch axis included where there is one; -1: any size.
    pub dims: Vec<i64>,
    /// Whether the number of axes is open, because the graph does not say it; `dims` is empty then.
    pub any_rank: bool,
    /// The encoding of text in an input of bytes, such as `utf-8`; may be empty.
    pub encoding: String,
    /// The meaning of the tensor, for people; may be empty.
    pub meaning: String,
    /// The names of the classes that an output tells apart, by index; may be empty.
    pub labels: Vec<String>,
    /// Whether a request may leave the input out, because the graph has a value of its own for it.
    pub optional: bool,
}

impl TensorSpec {
    /// A tensor as a graph declares it, without a meaning and labels.
    pub fn new(name: impl Into<String>, dtype: DType, dims: &[i64]) -> Self {
        Self {
            name: name.into(),
            dtype,
            dims: dims.to_vec(),
            any_rank: false,
            encoding: String::new(),
            meaning: String::new(),
            labels: Vec::new(),
            optional: false,
        }
    }
}

/// The policy of how long, and how many, requests of one priority may wait for their batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuePolicy {
    /// The longest time that a request may wait; none: for ever.
    pub default_timeout: Option<Duration>,
    /// Whether a request may ask for a shorter time.
    pub allow_timeout_override: bool,
    /// Whether a request that has waited for longer is run when nothing else of its priority waits.
    /// It is refused otherwise.
    pub late_is_delayed: bool,
    /// The most requests that may wait; none: any number.
    pub max_requests: Option<usize>,
}

impl QueuePolicy {
    /// The longest time that a request may wait that asks for `asked`; none: for ever.
    pub fn timeout(&self, asked: Option<Duration>) -> Option<Duration> {
        let asked = asked.filter(|_| self.allow_timeout_override);
        self.default_timeout.into_iter().chain(asked).min()
    }
}

/// The rules by which requests form batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The longest time that a batch waits for more requests; zero: it does not wait.
    pub max_delay: Duration,
    /// The batch sizes, in rows and rising, at which a batch waits no more; empty: a full batch.
    pub preferred_sizes: Vec<usize>,
    /// The policy of each priority, the highest first; at least one.
    pub priorities: Vec<QueuePolicy>,
    /// The index of the priority of a request that asks for none, or for one that there is not.
    pub default_priority: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            max_delay: Duration::ZERO,
            preferred_sizes: Vec::new(),
            priorities: vec![QueuePolicy::default()],
            default_priority: 0,
        }
    }
}

impl Batching {
    /// The index of the priority of a request that asks for `asked`; 1 is the highest.
    pub fn priority(&self, asked: u64) -> usize {
        let index = usize::try_from(asked).ok().and_then(|asked| asked.checked_sub(1));
        index.filter(|index| *index < self.priorities.len()).unwrap_or(self.default_priority)
    }
}

/// The limits of what a model may take of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest time of a run.
    pub run_time: Duration,
    /// The most bytes that a run may allocate on the host.
    pub run_memory: usize,
    /// The most bytes of an answer's tensors.
    pub answer: usize,
    /// The most bytes of a request's outputs, whether they are all answered or not.
    pub outputs: usize,
    /// The longest time in which another engine is made.
    pub load_time: Duration,
}

impl Default for Limits {
    /// Limits that limit nothing.
    fn default() -> Self {
        let (most, longest) = (usize::MAX, Duration::MAX);
        Self {
            run_time: longest,
            run_memory: most,
            answer: most,
            outputs: most,
            load_time: longest,
        }
    }
}

/// The engines of a model on one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The device that the engines run on.
    pub device: Device,
    /// The number of engines; 0: one a shard on the CPU, and one on a GPU.
    pub count: usize,
}

/// A version of a model as configured, frozen once it is built.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The model's name.
    pub name: String,
    /// The version, above 0.
    pub version: u64,
    /// The inputs in the graph's order.
    pub inputs: Vec<TensorSpec>,
    /// The outputs in the graph's order.
    pub outputs: Vec<TensorSpec>,
    /// The most rows of one request; 0: the model has no batch axis.
    pub max_batch_size: usize,
    /// The outputs that are classifications, the default first; empty: all are raw.
    pub heads: Vec<Head>,
    /// The author's word on whether a row's answer depends on that row alone; none: the warm-up
    /// finds out.
    pub rows_independent: Option<bool>,
    /// The most by which golden answers may be off: absolute, and relative for numbers over 1.
    pub tolerance: f32,
    /// The sets of engines that the model may be given; of several, the one with the best
    /// throughput is taken.
    pub placements: Vec<Vec<Placement>>,
    /// The reason for these placements, for people; may be empty.
    pub device_reason: String,
    /// The rules by which requests form batches.
    pub batching: Batching,
    /// The limits of what the model may take of the server.
    pub limits: Limits,
    /// Findings of the description that a user should know, for people.
    pub warnings: Vec<String>,
    /// The whole specification as Triton's configuration.
    pub config: ModelConfig,
}

impl ModelSpec {
    /// The index of the input with this name. The name may be empty where there is one input only.
    pub fn input(&self, name: &str) -> Option<usize> {
        match name {
            "" if self.inputs.len() == 1 => Some(0),
            name => self.inputs.iter().position(|input| input.name == name),
        }
    }

    /// The most rows of a request that is classified; 0: the model has no rows. A model without a
    /// batch axis has one row where the first size of each input is 1.
    pub fn row_limit(&self) -> usize {
        let is_one_row = self.inputs.iter().all(|input| input.dims.first() == Some(&1));
        self.max_batch_size.max(usize::from(is_one_row))
    }
}

impl Default for ModelSpec {
    /// A raw model without a name, an input or an output, on the CPU.
    fn default() -> Self {
        Self {
            name: String::new(),
            version: 1,
            inputs: Vec::new(),
            outputs: Vec::new(),
            max_batch_size: 0,
            heads: Vec::new(),
            rows_independent: None,
            tolerance: 0.0,
            placements: vec![vec![Placement::default()]],
            device_reason: String::new(),
            batching: Batching::default(),
            limits: Limits::default(),
            warnings: Vec::new(),
            config: ModelConfig::default(),
        }
    }
}

/// The report of a warm-up.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whether the model is heavy: it is run by workers, for its full batch would hold up a shard.
    pub heavy: bool,
    /// Whether a row's answer depends on that row alone, so that requests may share a batch.
    pub rows_independent: bool,
    /// The batch size, in rows, from which a row gets no cheaper: a batch grows up to it.
    pub preferred_batch_size: usize,
    /// Pairs of a batch's rows and the microseconds of its run, for every size tried, by rising
    /// rows.
    pub microseconds_per_batch: Vec<(usize, f64)>,
    /// The reason why the network has run none of the rows tried; empty where it has run some.
    pub refusal: String,
    /// Findings that a user of the model should know, for people.
    pub warnings: Vec<String>,
    /// The devices that the model runs on, such as `cpu`, or `cuda:0, cuda:1`.
    pub device: String,
    /// The reason for these devices, for people; may be empty.
    pub device_reason: String,
    /// The alternatives that there were, timed; empty where there was no choice.
    pub alternatives: Vec<Timed>,
    /// Whether batches are replayed as CUDA graphs: `on`, or `off: ` and the reason; empty on a
    /// device that has no CUDA graphs.
    pub graphs: String,
}

/// The speed of a model on one set of devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// The devices, such as `cpu`, or `cuda:0, cuda:1`.
    pub device: String,
    /// The microseconds of a run of one row; 0: not known.
    pub microseconds_per_row: f64,
    /// The rows a second in the largest timed batches on all engines; 0: not known.
    pub rows_per_second: f64,
}

/// A served version of a model.
#[derive(Debug)]
pub struct Model {
    /// The specification, as configured.
    pub spec: ModelSpec,
    /// The report of the warm-up.
    pub report: Report,
}

impl Model {
    /// The most rows of a batch of several requests; 0: every request runs alone.
    pub fn batch_rows(&self) -> usize {
        if !self.report.rows_independent {
            return 0;
        }
        let stated = self.spec.batching.preferred_sizes.last();
        stated.copied().unwrap_or(self.report.preferred_batch_size)
    }
}
