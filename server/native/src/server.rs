//! The server's handle.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sigmax_core::engine::Source;
use sigmax_core::engine::onnx::OnnxFile;
use sigmax_core::golden::Sample;
use sigmax_core::model::{ModelSpec, Task, TensorSpec};
use sigmax_core::server::{self, ServerConfig};

use crate::model::{OpenedModel, Report};
use crate::native_error;

/// A running server: ports bound, threads started, no model yet and not ready.
#[pyclass(frozen)]
#[derive(Debug)]
pub(crate) struct Server(server::Server);

#[pymethods]
impl Server {
    #[new]
    fn new(py: Python<'_>, config: Config) -> PyResult<Self> {
        Ok(Self(py.detach(|| server::Server::start(config.into()))?))
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
        let task = spec.task()?;
        let file = opened.take()?;
        py.detach(|| {
            let folders = spec.golden.iter();
            let samples = folders
                .map(|folder| Sample::read(folder, file.inputs(), file.outputs()))
                .collect::<Result<_, _>>()?;
            let spec = spec.complete(&file, task);
            self.0.load(Box::new(file), spec, samples)
        })
        .map(Report::from)
        .map_err(native_error)
    }

    fn fail(&self, py: Python<'_>, name: &str, version: u64, reason: String) {
        py.detach(|| self.0.fail(name, version, reason));
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
        let time = Duration::try_from_secs_f64(seconds).map_err(|_| {
            PyValueError::new_err(format!("seconds: expected a time to wait, got {seconds}"))
        })?;
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
    server_name: String,
    server_version: String,
    strict_readiness: bool,
}

impl From<Config> for ServerConfig {
    fn from(config: Config) -> Self {
        Self {
            host: config.host,
            grpc_port: config.grpc_port,
            http_port: config.http_port,
            shards: config.shards,
            queue_rows: config.queue_rows,
            max_message_bytes: config.max_message_bytes,
            max_connections: config.max_connections,
            server_name: config.server_name,
            server_version: config.server_version,
            strict_readiness: config.strict_readiness,
        }
    }
}

/// The attributes of a model's description.
#[derive(FromPyObject)]
struct Spec {
    name: String,
    version: u64,
    max_batch_size: usize,
    task: Option<String>,
    labels: Vec<String>,
    thresholds: Vec<f32>,
    meanings: HashMap<String, String>,
    tolerance: f32,
    golden: Vec<PathBuf>,
}

impl Spec {
    fn task(&self) -> PyResult<Option<Task>> {
        Ok(Some(match self.task.as_deref() {
            None => return Ok(None),
            Some("binary") => Task::Binary,
            Some("multiclass") => Task::Multiclass,
            Some("multilabel") => Task::Multilabel,
            Some(other) => {
                return Err(PyValueError::new_err(format!(
                    "task: expected binary, multiclass, multilabel or None; got '{other}'"
                )));
            }
        }))
    }

    /// The description with what the graph says.
    fn complete(self, file: &OnnxFile, task: Option<Task>) -> ModelSpec {
        let explained = |tensor: &TensorSpec| TensorSpec {
            meaning: self.meanings.get(&tensor.name).cloned().unwrap_or_default(),
            ..tensor.clone()
        };
        ModelSpec {
            inputs: file.inputs().iter().map(explained).collect(),
            outputs: file.outputs().iter().map(explained).collect(),
            name: self.name,
            version: self.version,
            max_batch_size: self.max_batch_size,
            task,
            labels: self.labels,
            thresholds: self.thresholds,
            tolerance: self.tolerance,
            device: "cpu".into(),
        }
    }
}
