//! What a model is: the description a request is checked against, and what warm-up has shown.

use std::time::Duration;

use crate::model::device::Device;
use crate::proto::inference::ModelConfig;
use crate::tensor::DType;

pub mod catalog;
pub mod control;
pub mod device;
pub mod triton_config;

/// What the first output means, and so how a decision is taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// One probability a row, of class 1.
    Binary,
    /// One probability a class, summing to 1.
    Multiclass,
    /// One independent probability a class.
    Multilabel,
}

/// One input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// The name in the graph.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// The sizes, the batch axis included where there is one; -1: any.
    pub dims: Vec<i64>,
    /// What it holds, for people; may be empty.
    pub meaning: String,
    /// Names of the classes that an output tells apart, by index; may be empty.
    pub labels: Vec<String>,
    /// A request may leave this input out: the graph has a value of its own for it.
    pub optional: bool,
}

impl TensorSpec {
    /// A tensor as a graph declares it, and nothing more.
    pub fn new(name: impl Into<String>, dtype: DType, dims: &[i64]) -> Self {
        Self {
            name: name.into(),
            dtype,
            dims: dims.to_vec(),
            meaning: String::new(),
            labels: Vec::new(),
            optional: false,
        }
    }
}

/// How long requests of one priority may wait for their batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuePolicy {
    /// The longest; none: for ever.
    pub default_timeout: Option<Duration>,
    /// A request may ask for less.
    pub allow_timeout_override: bool,
    /// What has waited for longer is run when nothing else of its priority waits; otherwise refused.
    pub late_is_delayed: bool,
    /// The most requests that wait; none: any number.
    pub max_requests: Option<usize>,
}

impl QueuePolicy {
    /// How long a request that asks for so much may wait.
    pub fn timeout(&self, asked: Option<Duration>) -> Option<Duration> {
        let asked = asked.filter(|_| self.allow_timeout_override);
        self.default_timeout.into_iter().chain(asked).min()
    }
}

/// How requests are put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The longest that a batch waits for more requests; zero: it does not.
    pub max_delay: Duration,
    /// Sizes in rows, rising, that are worth no more waiting; empty: the batch that is full.
    pub preferred_sizes: Vec<usize>,
    /// A policy for each priority, the highest first; at least one.
    pub priorities: Vec<QueuePolicy>,
    /// Which of them a request has that asks for none, or for one that there is not.
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
    /// Which of the priorities a request has that asks for this one; 1 is the highest.
    pub fn priority(&self, asked: u64) -> usize {
        let index = usize::try_from(asked).ok().and_then(|asked| asked.checked_sub(1));
        index.filter(|index| *index < self.priorities.len()).unwrap_or(self.default_priority)
    }
}

/// What a model may take of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest run.
    pub run_time: Duration,
    /// The most that a run allocates on the host, in bytes.
    pub run_memory: usize,
    /// The most that an answer's tensors hold, in bytes.
    pub answer: usize,
    /// The most that a request's outputs hold, whatever of them is answered, in bytes.
    pub outputs: usize,
    /// The longest that another engine is made for.
    pub load_time: Duration,
}

impl Default for Limits {
    /// None.
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

/// Engines on one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// What they run on.
    pub device: Device,
    /// How many; 0: as many as serve it best there.
    pub count: usize,
}

/// A version of a model as configured, frozen once it is built.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// The model's name.
    pub name: String,
    /// The version, above 0.
    pub version: u64,
    /// Inputs in the graph's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs in the graph's order; a task is about the first.
    pub outputs: Vec<TensorSpec>,
    /// The most rows of one request; 0: no batch axis.
    pub max_batch_size: usize,
    /// What the first output means; none: raw output.
    pub task: Option<Task>,
    /// Names of the classes by index; may be empty.
    pub labels: Vec<String>,
    /// Binary: one. Multi-label: one a class. Otherwise empty.
    pub thresholds: Vec<f32>,
    /// How far golden answers may be off, absolute.
    pub tolerance: f32,
    /// The engines it may be given: of several such sets, the one with the better throughput.
    pub placements: Vec<Vec<Placement>>,
    /// Why these, for people; may be empty.
    pub device_reason: String,
    /// How requests are put together.
    pub batching: Batching,
    /// What it may take.
    pub limits: Limits,
    /// The whole specification in Triton's form.
    pub config: ModelConfig,
}

impl ModelSpec {
    /// The place of the input with this name. The name may be left out where there is one input only.
    pub fn input(&self, name: &str) -> Option<usize> {
        match name {
            "" if self.inputs.len() == 1 => Some(0),
            name => self.inputs.iter().position(|input| input.name == name),
        }
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
            task: None,
            labels: Vec::new(),
            thresholds: Vec::new(),
            tolerance: 0.0,
            placements: vec![vec![Placement::default()]],
            device_reason: String::new(),
            batching: Batching::default(),
            limits: Limits::default(),
            config: ModelConfig::default(),
        }
    }
}

/// What warming up has shown.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// A full batch takes long enough to hold up a shard: the model is run by workers.
    pub heavy: bool,
    /// A row's answer depends on that row alone, so requests may share a batch.
    pub rows_independent: bool,
    /// The size, in rows, from which a row gets no cheaper: a forming batch stops there.
    pub preferred_batch_size: usize,
    /// (rows, microseconds of one run) of every size tried, rising.
    pub microseconds_per_batch: Vec<(usize, f64)>,
    /// Why the network has run none of the rows that were tried; empty where it has.
    pub refusal: String,
    /// What it runs on, such as `cpu`, or `cuda:0, cuda:1`.
    pub device: String,
    /// Why, for people; may be empty.
    pub device_reason: String,
    /// What was to choose from, timed; empty where there was no choice.
    pub alternatives: Vec<Timed>,
    /// Whether batches are replayed as CUDA graphs: `on`, `off: ` and why, or nothing where that is
    /// no question.
    pub graphs: String,
}

/// How fast a model is somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// The devices, such as `cpu`, or `cuda:0, cuda:1`.
    pub device: String,
    /// Microseconds of a run of one row.
    pub microseconds_per_row: f64,
    /// Rows a second in full batches on all engines.
    pub rows_per_second: f64,
}

/// A served version of a model.
#[derive(Debug)]
pub struct Model {
    /// What is configured.
    pub spec: ModelSpec,
    /// What the warm-up has measured.
    pub report: Report,
}

impl Model {
    /// The most rows that requests may form a batch of; 0 where every request runs alone.
    pub fn batch_rows(&self) -> usize {
        if !self.report.rows_independent {
            return 0;
        }
        let stated = self.spec.batching.preferred_sizes.last();
        stated.copied().unwrap_or(self.report.preferred_batch_size)
    }
}
