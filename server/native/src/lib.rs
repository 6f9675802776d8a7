//! The data plane as a Python module. What it offers is written down in
//! `python/sigmax_server/_native.pyi`; here are conversions and nothing else.

use pyo3::prelude::*;

mod config;
mod model;
mod server;

pyo3::create_exception!(
    sigmax_server._native,
    NativeError,
    pyo3::exceptions::PyException,
    "The data plane refused or failed; the message is for people."
);

/// Any error of the core, with its message.
fn native_error(error: impl ToString) -> PyErr {
    NativeError::new_err(error.to_string())
}

/// The Rust data plane, as Python sees it.
#[pymodule]
mod _native {
    use std::env;

    use pyo3::prelude::*;
    use tracing_subscriber::filter::LevelFilter;

    #[pymodule_export]
    use super::NativeError;
    #[pymodule_export]
    use super::config::{canonical_config, read_config};
    #[pymodule_export]
    use super::model::{OpenedModel, Report, TensorInfo, load_runtime, open_model};
    #[pymodule_export]
    use super::server::Server;

    /// Sends log messages to standard error, from the level that SIGMAX_LOG names.
    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        let text = env::var("SIGMAX_LOG").unwrap_or_default();
        let level = match text.as_str() {
            "" => Ok(LevelFilter::WARN),
            text => text.parse(),
        };
        // Where the process has a subscriber already, that one stays.
        let _ = tracing_subscriber::fmt()
            .with_max_level(*level.as_ref().unwrap_or(&LevelFilter::WARN))
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .try_init();
        if level.is_err() {
            tracing::warn!(
                "SIGMAX_LOG: expected off, error, warn, info, debug or trace; got '{text}': taken as warn"
            );
        }
        Ok(())
    }
}
