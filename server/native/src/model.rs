//! Model files that have been opened, and the reports of their warm-ups.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sigmax_core::engine::Source;
use sigmax_core::engine::onnx::file::OnnxFile;
use sigmax_core::engine::onnx::{runtime, trial};
use sigmax_core::engine::watchdog;
use sigmax_core::file;
use sigmax_core::model::device::Device;
use sigmax_core::model::{self, TensorSpec};

use crate::server::duration;
use crate::{detached, native_error};

/// Opens ONNX Runtime's shared library at this absolute path, once a process. Returns its version.
#[pyfunction]
pub(crate) fn load_runtime(py: Python<'_>, library: PathBuf) -> PyResult<String> {
    py.detach(|| runtime::load_runtime(&library)).map_err(native_error)
}

/// The execution providers that the library has been built with, the one that it prefers first.
#[pyfunction]
pub(crate) fn providers(py: Python<'_>) -> PyResult<Vec<String>> {
    py.detach(runtime::providers).map_err(native_error)
}

/// Runs a small network on a device. An error has the words of ONNX Runtime, or of CUDA.
#[pyfunction]
pub(crate) fn try_device(py: Python<'_>, device: &str) -> PyResult<()> {
    let device = device.parse::<Device>().map_err(native_error)?;
    py.detach(|| trial::try_device(device)).map_err(native_error)
}

/// Reads a file. An error gives the reason, and does not name the file.
#[pyfunction]
pub(crate) fn read_file<'py>(
    py: Python<'py>,
    path: PathBuf,
    most_bytes: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = detached(py, || file::read(&path, most_bytes))?;
    Ok(PyBytes::new(py, &bytes))
}

/// Opens an ONNX file. An error names the file and the reason.
#[pyfunction]
pub(crate) fn open_model(
    py: Python<'_>,
    path: PathBuf,
    most_bytes: u64,
    seconds: f64,
) -> PyResult<OpenedModel> {
    let until = from_now(seconds)?;
    let file = detached(py, || OnnxFile::open(&path, most_bytes, until))?;
    Ok(opened(path.to_string_lossy().into(), file, until))
}

/// Opens the content of an ONNX file that is on no disk, and so must have all its weights inside.
#[pyfunction]
pub(crate) fn open_content(
    py: Python<'_>,
    name: &str,
    content: Vec<u8>,
    seconds: f64,
) -> PyResult<OpenedModel> {
    let until = from_now(seconds)?;
    let file = detached(py, || OnnxFile::of_content(name, content, until))?;
    Ok(opened(name.into(), file, until))
}

fn from_now(seconds: f64) -> PyResult<Instant> {
    duration("seconds", seconds).map(watchdog::from_now).map_err(PyValueError::new_err)
}

fn opened(path: String, file: OnnxFile, until: Instant) -> OpenedModel {
    OpenedModel {
        path,
        inputs: infos(file.inputs()),
        outputs: infos(file.outputs()),
        metadata: file.metadata().clone(),
        file: Mutex::new(Some(file)),
        until,
    }
}

/// An input or output, as the graph declares it.
#[pyclass(frozen, get_all)]
#[derive(Clone, Debug)]
pub(crate) struct TensorInfo {
    name: String,
    dtype: &'static str,
    dims: Vec<i64>,
    any_rank: bool,
    optional: bool,
}

fn infos(specs: &[TensorSpec]) -> Vec<TensorInfo> {
    let info = |spec: &TensorSpec| TensorInfo {
        name: spec.name.clone(),
        dtype: spec.dtype.name(),
        dims: spec.dims.clone(),
        any_rank: spec.any_rank,
        optional: spec.optional,
    };
    specs.iter().map(info).collect()
}

/// A model file that has been opened once. `Server.load` serves the content that was read then.
#[pyclass(frozen)]
#[derive(Debug)]
pub(crate) struct OpenedModel {
    #[pyo3(get)]
    path: String,
    #[pyo3(get)]
    inputs: Vec<TensorInfo>,
    #[pyo3(get)]
    outputs: Vec<TensorInfo>,
    #[pyo3(get)]
    metadata: BTreeMap<String, String>,
    /// The file; none once it has been loaded.
    file: Mutex<Option<OnnxFile>>,
    /// The time by which the model is to be loaded.
    pub(crate) until: Instant,
}

impl OpenedModel {
    /// Takes the file; an error where it has been taken before.
    pub(crate) fn take(&self) -> PyResult<OnnxFile> {
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| native_error(format!("{}: has been loaded already", self.path)))
    }
}

/// The report of a model's warm-up.
#[pyclass(frozen, get_all)]
#[derive(Clone, Debug)]
pub(crate) struct Report {
    heavy: bool,
    rows_independent: bool,
    preferred_batch_size: usize,
    microseconds_per_batch: Vec<(usize, f64)>,
    device: String,
    device_reason: String,
    alternatives: Vec<Timed>,
    graphs: String,
    refusal: String,
    warnings: Vec<String>,
}

/// The speed of a model on one set of devices.
#[pyclass(frozen, get_all)]
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    device: String,
    microseconds_per_row: f64,
    rows_per_second: f64,
}

impl From<model::Timed> for Timed {
    fn from(timed: model::Timed) -> Self {
        Self {
            device: timed.device,
            microseconds_per_row: timed.microseconds_per_row,
            rows_per_second: timed.rows_per_second,
        }
    }
}

impl From<model::Report> for Report {
    fn from(report: model::Report) -> Self {
        Self {
            heavy: report.heavy,
            rows_independent: report.rows_independent,
            preferred_batch_size: report.preferred_batch_size,
            microseconds_per_batch: report.microseconds_per_batch,
            device: report.device,
            device_reason: report.device_reason,
            alternatives: report.alternatives.into_iter().map(Timed::from).collect(),
            graphs: report.graphs,
            refusal: report.refusal,
            warnings: report.warnings,
        }
    }
}
