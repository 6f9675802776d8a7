//! Orders of clients, which Python carries out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sigmax_core::model::control::{Action, Order};

use crate::native_error;

/// A client's order about a model. Exactly one of `done`, `not_found` and `failed` is called, once.
#[pyclass(frozen, name = "Order")]
#[derive(Debug)]
pub(crate) struct PyOrder {
    #[pyo3(get)]
    action: &'static str,
    #[pyo3(get)]
    model: String,
    #[pyo3(get)]
    config: Option<String>,
    files: BTreeMap<String, bytes::Bytes>,
    /// The core's order; none once it has been carried out.
    order: Mutex<Option<Order>>,
}

impl From<Order> for PyOrder {
    fn from(mut order: Order) -> Self {
        let (action, config, files) = match &mut order.action {
            Action::Load { config, files } => ("load", config.take(), std::mem::take(files)),
            Action::Unload => ("unload", None, BTreeMap::new()),
            Action::Index => ("index", None, BTreeMap::new()),
        };
        let model = order.model.clone();
        Self { action, model, config, files, order: Mutex::new(Some(order)) }
    }
}

#[pymethods]
impl PyOrder {
    #[getter]
    fn files<'py>(&self, py: Python<'py>) -> BTreeMap<String, Bound<'py, PyBytes>> {
        let files = self.files.iter();
        files.map(|(path, bytes)| (path.clone(), PyBytes::new(py, bytes))).collect()
    }

    fn done(&self, names: Vec<String>) -> PyResult<()> {
        self.take().map(|order| order.done(names))
    }

    fn not_found(&self, reason: String) -> PyResult<()> {
        self.take().map(|order| order.not_found(reason))
    }

    fn failed(&self, reason: String) -> PyResult<()> {
        self.take().map(|order| order.failed(reason))
    }
}

impl PyOrder {
    fn take(&self) -> PyResult<Order> {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner).take();
        order.ok_or_else(|| native_error("the order has been carried out already"))
    }
}
