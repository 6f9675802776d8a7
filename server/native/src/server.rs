//! The handle of a running server.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sigmax_core::access::options::{AccessOptions, JwtKeys, JwtOptions};
use sigmax_core::loading::description::{DescribedTensor, Description};
use sigmax_core::loading::error::LoadError;
use sigmax_core::model::device::GpuOptions;
use sigmax_core::model::head::{Head, Task};
use sigmax_core::model::triton_config;
use sigmax_core::model::{self, ModelSpec, Placement};
use sigmax_core::server;
use sigmax_core::server::config::ServerConfig;
use sigmax_core::tls::TlsOptions;

use crate::detached;
use crate::model::{OpenedModel, Report};
use crate::order::PyOrder;
use crate::wait_time;

/// A running server. A new one has its ports bound and its threads started, no model yet, and is
/// not ready.
#[pyclass(frozen)]
#[derive(Debug)]
pub(crate) struct Server(server::Server);

#[pymethods]
impl Server {
    #[new]
    fn new(py: Python<'_>, config: &Bound<'_, PyAny>) -> PyResult<Self> {
        let config = server_config(config)?;
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

    #[getter]
    fn access(&self) -> String {
        self.0.access()
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

/// The core's configuration from the attributes of Python's.
fn server_config(config: &Bound<'_, PyAny>) -> PyResult<ServerConfig> {
    let text = |name| attribute::<String>(config, name);
    let number = |name| attribute::<usize>(config, name);
    let switch = |name| attribute::<bool>(config, name);
    let time = |name| duration(name, attribute(config, name)?).map_err(PyValueError::new_err);
    let control = text("model_control")? == "explicit";
    let host = text("host")?;
    Ok(ServerConfig {
        http_host: some(text("http_host")?).unwrap_or_else(|| host.clone()),
        host,
        tls: tls_options(config)?,
        access: access_options(config)?,
        reflection: switch("reflection")?,
        max_connection_age: Some(time("max_connection_age_seconds")?).filter(|age| !age.is_zero()),
        max_connection_age_grace: time("max_connection_age_grace_seconds")?,
        grpc_port: attribute(config, "grpc_port")?,
        http_port: attribute(config, "http_port")?,
        unix_socket: text("listen")?.strip_prefix("unix:").map(PathBuf::from),
        shards: number("shards")?,
        queue_rows: number("queue_rows")?,
        max_message_bytes: number("max_message_bytes")?,
        max_connections: number("max_connections")?,
        handshake_time: time("handshake_seconds")?,
        max_metadata_bytes: number("max_metadata_bytes")?,
        memory_budget: number("memory_budget")?,
        stall_time: time("stall_seconds")?,
        busy_poll: Duration::from_micros(attribute(config, "busy_poll_microseconds")?),
        shared_memory: switch("shared_memory")?,
        model_control: control,
        allow_model_upload: switch("allow_model_upload")?,
        log_settings: control || switch("allow_log_settings")?,
        run_time: time("max_run_seconds")?,
        run_memory: match number("model_memory_limit")? {
            0 => usize::MAX,
            limit => limit,
        },
        load_time: time("load_timeout_seconds")?,
        gpu: GpuOptions { memory_limit: number("gpu_memory_limit")?, tf32: switch("tf32")? },
        server_name: text("server_name")?,
        server_version: text("server_version")?,
        strict_readiness: switch("strict_readiness")?,
    })
}

fn tls_options(config: &Bound<'_, PyAny>) -> PyResult<Option<TlsOptions>> {
    let Some(certificate) = file(config, "tls_certificate")? else { return Ok(None) };
    Ok(Some(TlsOptions {
        certificate,
        key: attribute::<String>(config, "tls_key")?.into(),
        client_ca: file(config, "tls_client_ca")?,
        client_required: attribute::<String>(config, "tls_client_auth")? != "request",
        http: attribute(config, "http_tls")?,
    }))
}

fn access_options(config: &Bound<'_, PyAny>) -> PyResult<AccessOptions> {
    let keys = match file(config, "jwt_jwks")? {
        Some(path) => Some(JwtKeys::Set(path)),
        None => file(config, "jwt_public_key")?.map(JwtKeys::Pem),
    };
    Ok(AccessOptions {
        token_file: file(config, "token_file")?,
        jwt: keys.map(|keys| jwt_options(config, keys)).transpose()?,
        access: file(config, "access")?,
        audit_log: file(config, "audit_log")?,
    })
}

fn jwt_options(config: &Bound<'_, PyAny>, keys: JwtKeys) -> PyResult<JwtOptions> {
    let text = |name| attribute::<String>(config, name);
    let leeway = attribute(config, "jwt_leeway_seconds")?;
    Ok(JwtOptions {
        keys,
        audience: text("jwt_audience")?,
        issuer: some(text("jwt_issuer")?),
        algorithms: text("jwt_algorithms")?.split(',').map(str::to_owned).collect(),
        leeway: duration("jwt_leeway_seconds", leeway).map_err(PyValueError::new_err)?,
        name_claim: text("jwt_name_claim")?,
        groups_claim: text("jwt_groups_claim")?,
    })
}

/// The path that a setting names; none where it is not set.
fn file(config: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<PathBuf>> {
    Ok(some(attribute::<String>(config, name)?).map(PathBuf::from))
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn attribute<'py, T: FromPyObjectOwned<'py>>(of: &Bound<'py, PyAny>, name: &str) -> PyResult<T> {
    of.getattr(name)?.extract().map_err(Into::into)
}

/// The attributes of a model's description.
#[derive(FromPyObject)]
struct Spec {
    name: String,
    version: u64,
    max_batch_size: usize,
    inputs: Vec<Described>,
    outputs: Vec<Described>,
    heads: Vec<HeadSpec>,
    rows_independent: Option<bool>,
    tolerance: f32,
    golden: Vec<PathBuf>,
    batching: Batching,
    placements: Vec<Vec<Placed>>,
    device_reason: String,
    warnings: Vec<String>,
    config: String,
}

/// The attributes of a head.
#[derive(FromPyObject)]
struct HeadSpec {
    name: String,
    output: usize,
    task: String,
    labels: Vec<String>,
    thresholds: Vec<f32>,
}

impl TryFrom<HeadSpec> for Head {
    type Error = String;

    fn try_from(head: HeadSpec) -> Result<Self, String> {
        let HeadSpec { name, output, task: meaning, labels, thresholds } = head;
        Ok(Self { name, output, task: task(&meaning)?, labels, thresholds })
    }
}

/// The attributes of a placement: the engines on one device.
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

/// The attributes of the rules by which requests form batches.
#[derive(FromPyObject)]
struct Batching {
    max_delay: f64,
    preferred_sizes: Vec<usize>,
    priorities: Vec<QueuePolicy>,
    default_priority: usize,
}

/// The attributes of the policy by which requests of one priority wait.
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

/// The attributes of an input's or output's description beyond its graph.
#[derive(FromPyObject)]
struct Described {
    name: String,
    dims: Vec<i64>,
    any_rank: bool,
    encoding: String,
    meaning: String,
    labels: Vec<String>,
    optional: bool,
}

impl From<Described> for DescribedTensor {
    fn from(described: Described) -> Self {
        let Described { name, dims, any_rank, encoding, meaning, labels, optional } = described;
        Self { name, dims, any_rank, encoding, meaning, labels, optional }
    }
}

fn task(name: &str) -> Result<Task, String> {
    match name {
        "binary" => Ok(Task::Binary),
        "multiclass" => Ok(Task::Multiclass),
        "multilabel" => Ok(Task::Multilabel),
        other => Err(format!("task: expected binary, multiclass or multilabel; got '{other}'")),
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
                heads: spec.heads.into_iter().map(Head::try_from).collect::<Result<_, _>>()?,
                rows_independent: spec.rows_independent,
                tolerance: spec.tolerance,
                placements: spec.placements.into_iter().map(place).collect::<Result<_, _>>()?,
                device_reason: spec.device_reason,
                warnings: spec.warnings,
                batching: spec.batching.try_into()?,
                config: triton_config::from_json(&spec.config)?,
                ..ModelSpec::default()
            },
        })
    }
}
