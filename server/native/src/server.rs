//! The server's handle.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sigmax_core::loading::description::{DescribedTensor, Description};
use sigmax_core::loading::error::LoadError;
use sigmax_core::model::device::GpuOptions;
use sigmax_core::model::triton_config;
use sigmax_core::model::{self, ModelSpec, Placement, Task};
use sigmax_core::server;
use sigmax_core::server::config::ServerConfig;

use crate::detached;
use crate::model::{OpenedModel, Report};
use crate::order::PyOrder;
use crate::wait_time;

/// A running server: ports bound, threads started, no model yet and not ready.
#[pyclass(frozen)]
#[derive(Debug)]
pub(crate) struct Server(server::Server);

#[pymethods]
impl Server {
    #[new]
    fn new(py: Python<'_>, config: Config) -> PyResult<Self> {
        let config = ServerConfig::try_from(config).map_err(PyValueError::new_err)?;
        Ok(Self(py.detach(|| server::Server::start(config))?))
    }

    #[getter]
    fn grpc_address(&self) -> String {
        self.0.grpc_address().to_string()
    }

    #[getter]
    fn http_address(&self) -> String {
        self.0.http_address().to_string()
    }

    fn declare(&self, py: Python<'_>, name: &str, version: u64) {
        py.detach(|| self.0.declare(name, version));
    }

    fn load(&self, py: Python<'_>, opened: &OpenedModel, spec: Spec) -> PyResult<Report> {
        let description = Description::try_from(spec).map_err(PyValueError::new_err)?;
        let file = opened.take()?;
        let until = opened.until;
        detached(py, || {
            let loaded = self.0.load(description.complete(file)?, until)?;
            let report = loaded.model.report.clone();
            self.0.publish(loaded);
            Ok::<_, LoadError>(report)
        })
        .map(Report::from)
    }

    fn fail(&self, py: Python<'_>, name: &str, version: u64, reason: String) {
        py.detach(|| self.0.fail(name, version, reason));
    }

    fn forget(&self, py: Python<'_>, name: &str, version: u64) {
        py.detach(|| self.0.forget(name, version));
    }

    fn next_order(&self, py: Python<'_>) -> Option<PyOrder> {
        py.detach(|| self.0.next_order()).map(PyOrder::from)
    }

    fn versions(&self, py: Python<'_>, name: &str) -> Vec<u64> {
        py.detach(|| self.0.versions(name))
    }

    fn unload(&self, py: Python<'_>, name: &str, version: u64) {
        py.detach(|| self.0.unload(name, version));
    }

    fn finish_loading(&self, py: Python<'_>) {
        py.detach(|| self.0.finish_loading());
    }

    fn is_ready(&self, py: Python<'_>) -> bool {
        py.detach(|| self.0.is_ready())
    }

    fn drain(&self, py: Python<'_>) {
        py.detach(|| self.0.drain());
    }

    fn wait(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let time = wait_time(seconds)?;
        Ok(py.detach(|| self.0.wait(time)))
    }

    fn stop(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.stop())
    }
}

/// The attributes of a configuration.
#[derive(FromPyObject)]
struct Config {
    host: String,
    grpc_port: u16,
    http_port: u16,
    shards: usize,
    queue_rows: usize,
    max_message_bytes: usize,
    max_connections: usize,
    handshake_seconds: f64,
    max_metadata_bytes: usize,
    memory_budget: usize,
    stall_seconds: f64,
    busy_poll_microseconds: u64,
    listen: String,
    shared_memory: bool,
    model_control: String,
    allow_model_upload: bool,
    allow_log_settings: bool,
    max_run_seconds: f64,
    model_memory_limit: usize,
    load_timeout_seconds: f64,
    gpu_memory_limit: usize,
    tf32: bool,
    server_name: String,
    server_version: String,
    strict_readiness: bool,
}

impl TryFrom<Config> for ServerConfig {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        Ok(Self {
            host: config.host,
            grpc_port: config.grpc_port,
            http_port: config.http_port,
            shards: config.shards,
            queue_rows: config.queue_rows,
            max_message_bytes: config.max_message_bytes,
            max_connections: config.max_connections,
            handshake_time: duration("handshake_seconds", config.handshake_seconds)?,
            max_metadata_bytes: config.max_metadata_bytes,
            memory_budget: config.memory_budget,
            stall_time: duration("stall_seconds", config.stall_seconds)?,
            busy_poll: Duration::from_micros(config.busy_poll_microseconds),
            unix_socket: config.listen.strip_prefix("unix:").map(PathBuf::from),
            shared_memory: config.shared_memory,
            log_settings: config.allow_log_settings || config.model_control == "explicit",
            model_control: config.model_control == "explicit",
            allow_model_upload: config.allow_model_upload,
            run_time: duration("max_run_seconds", config.max_run_seconds)?,
            run_memory: match config.model_memory_limit {
                0 => usize::MAX,
                limit => limit,
            },
            load_time: duration("load_timeout_seconds", config.load_timeout_seconds)?,
            gpu: GpuOptions { memory_limit: config.gpu_memory_limit, tf32: config.tf32 },
            server_name: config.server_name,
            server_version: config.server_version,
            strict_readiness: config.strict_readiness,
        })
    }
}

/// The attributes of a model's description.
#[derive(FromPyObject)]
struct Spec {
    name: String,
    version: u64,
    max_batch_size: usize,
    inputs: Vec<Described>,
    outputs: Vec<Described>,
    task: Option<String>,
    labels: Vec<String>,
    thresholds: Vec<f32>,
    tolerance: f32,
    golden: Vec<PathBuf>,
    batching: Batching,
    placements: Vec<Vec<Placed>>,
    device_reason: String,
    config: String,
}

/// The attributes of engines on one device.
#[derive(FromPyObject)]
struct Placed {
    device: String,
    count: usize,
}

impl TryFrom<Placed> for Placement {
    type Error = String;

    fn try_from(placed: Placed) -> Result<Self, String> {
        Ok(Self { device: placed.device.parse()?, count: placed.count })
    }
}

/// The attributes of how requests are put batching.
#[derive(FromPyObject)]
struct Batching {
    max_delay: f64,
    preferred_sizes: Vec<usize>,
    priorities: Vec<QueuePolicy>,
    default_priority: usize,
}

/// The attributes of how requests of one priority wait.
#[derive(FromPyObject)]
struct QueuePolicy {
    default_timeout: Option<f64>,
    allow_timeout_override: bool,
    late_is_delayed: bool,
    max_requests: Option<usize>,
}

impl TryFrom<Batching> for model::Batching {
    type Error = String;

    fn try_from(batching: Batching) -> Result<Self, String> {
        Ok(Self {
            max_delay: duration("max_delay", batching.max_delay)?,
            preferred_sizes: batching.preferred_sizes,
            priorities: batching
                .priorities
                .into_iter()
                .map(model::QueuePolicy::try_from)
                .collect::<Result<_, _>>()?,
            default_priority: batching.default_priority,
        })
    }
}

impl TryFrom<QueuePolicy> for model::QueuePolicy {
    type Error = String;

    fn try_from(policy: QueuePolicy) -> Result<Self, String> {
        let timeout = policy.default_timeout.map(|seconds| duration("default_timeout", seconds));
        Ok(Self {
            default_timeout: timeout.transpose()?,
            allow_timeout_override: policy.allow_timeout_override,
            late_is_delayed: policy.late_is_delayed,
            max_requests: policy.max_requests,
        })
    }
}

pub(crate) fn duration(name: &str, seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{name}: {error}"))
}

/// What is said of an input or output beyond its graph.
#[derive(FromPyObject)]
struct Described {
    name: String,
    dims: Vec<i64>,
    meaning: String,
    labels: Vec<String>,
    optional: bool,
}

impl From<Described> for DescribedTensor {
    fn from(described: Described) -> Self {
        let Described { name, dims, meaning, labels, optional } = described;
        Self { name, dims, meaning, labels, optional }
    }
}

fn task(name: &str) -> Result<Task, String> {
    match name {
        "binary" => Ok(Task::Binary),
        "multiclass" => Ok(Task::Multiclass),
        "multilabel" => Ok(Task::Multilabel),
        other => {
            Err(format!("task: expected binary, multiclass, multilabel or None; got '{other}'"))
        }
    }
}

impl TryFrom<Spec> for Description {
    type Error = String;

    fn try_from(spec: Spec) -> Result<Self, String> {
        let place = |each: Vec<Placed>| each.into_iter().map(Placement::try_from).collect();
        Ok(Self {
            inputs: spec.inputs.into_iter().map(DescribedTensor::from).collect(),
            outputs: spec.outputs.into_iter().map(DescribedTensor::from).collect(),
            golden: spec.golden,
            spec: ModelSpec {
                name: spec.name,
                version: spec.version,
                max_batch_size: spec.max_batch_size,
                task: spec.task.as_deref().map(task).transpose()?,
                labels: spec.labels,
                thresholds: spec.thresholds,
                tolerance: spec.tolerance,
                placements: spec.placements.into_iter().map(place).collect::<Result<_, _>>()?,
                device_reason: spec.device_reason,
                batching: spec.batching.try_into()?,
                config: triton_config::from_json(&spec.config)?,
                ..ModelSpec::default()
            },
        })
    }
}
