//! Conversions of Triton's model configurations.

use pyo3::prelude::*;
use sigmax_core::model::triton_config;

use crate::native_error;

/// Turns a `config.pbtxt` into JSON, with fields by their own names.
#[pyfunction]
pub(crate) fn read_config(py: Python<'_>, text: &str) -> PyResult<String> {
    py.detach(|| triton_config::text_to_json(text)).map_err(native_error)
}

/// Turns any JSON of a configuration into JSON of the form that `read_config` gives.
#[pyfunction]
pub(crate) fn canonical_config(py: Python<'_>, json: &str) -> PyResult<String> {
    py.detach(|| triton_config::canonical_json(json)).map_err(native_error)
}
