//! The data plane as a Python module. `python/sigmax_server/_native.pyi` documents the functions
//! and classes that it offers; this crate holds conversions and nothing else.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sigmax_core::log::{self, Levels};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter};

mod config;
mod model;
mod order;
mod server;

pyo3::create_exception!(
    sigmax_server._native,
    NativeError,
    pyo3::exceptions::PyException,
    "The data plane refused or failed; the message is for people."
);

/// The Python exception for an error of the core, with the same message.
fn native_error(error: impl ToString) -> PyErr {
    NativeError::new_err(error.to_string())
}

/// Does work without holding the interpreter. A panic becomes an error like any other, so that a
/// bad model file costs that model alone.
fn detached<T: Send, E: ToString + Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(|| py.detach(work))) {
        Ok(result) => result.map_err(native_error),
        Err(_) => Err(native_error("a fault of ours: the log has the details")),
    }
}

/// A filter that lets messages through as the core's log levels say, which clients may change.
struct Wanted;

impl<S> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        Levels::current().has(*metadata.level())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match Levels::current().has(*metadata.level()) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let levels = Levels::current();
        let all = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
        let most = all.into_iter().find(|level| levels.has(*level));
        Some(most.map_or(LevelFilter::OFF, LevelFilter::from_level))
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        !log::is_one_too_many(event)
    }
}

/// A writer of log messages. Each call writes one message as one line, whatever clients and files
/// put into it.
struct Log;

impl io::Write for Log {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        log::STDERR.line(String::from_utf8_lossy(message).trim_end_matches('\n'));
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Time that the end of the interpreter waits until the printed lines have been read.
const LAST: Duration = Duration::from_secs(2);

/// Logs a panic. The default panic hook would wait for the reader of standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    tracing::error!("{panic}");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        log::STDERR.print(&trace.to_string());
    }
}

#[pyfunction]
fn print_output(text: &str) {
    log::STDOUT.print(text);
}

#[pyfunction]
fn print_error(text: &str) {
    log::STDERR.print(text);
}

#[pyfunction]
fn finish_output(py: Python<'_>, seconds: f64) -> PyResult<bool> {
    let time = wait_time(seconds)?;
    py.detach(|| {
        let end = Instant::now() + time;
        log::tell_repeats(Instant::now() + log::SPAN);
        let finished = log::STDOUT.finish(time);
        Ok(log::STDERR.finish(end.saturating_duration_since(Instant::now())) && finished)
    })
}

/// The duration of Python's seconds; an error where they are no time to wait.
fn wait_time(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!("seconds: expected a time to wait, got {seconds}"))
    })
}

/// The Rust data plane, as Python sees it.
#[pymodule]
mod _native {
    use std::env;

    use pyo3::prelude::*;
    use sigmax_core::log::Levels;
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;

    use super::{LAST, Log, Wanted, log_panic};

    #[pymodule_export]
    use super::NativeError;
    #[pymodule_export]
    use super::config::{canonical_config, read_config};
    #[pymodule_export]
    use super::model::{
        OpenedModel, Report, TensorInfo, Timed, load_runtime, open_content, open_model, providers,
        read_file, try_device,
    };
    #[pymodule_export]
    use super::order::PyOrder;
    #[pymodule_export]
    use super::server::Server;
    #[pymodule_export]
    use super::{finish_output, print_error, print_output};

    /// Sends log messages to standard error, from the level that SIGMAX_LOG names.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let finish = (module.getattr("finish_output")?, LAST.as_secs_f64());
        module.py().import("atexit")?.call_method1("register", finish)?;
        let text = env::var("SIGMAX_LOG").unwrap_or_default();
        let level = match text.as_str() {
            "" => Ok(LevelFilter::WARN),
            text => text.parse(),
        };
        Levels::from(level.as_ref().unwrap_or(&LevelFilter::WARN).into_level()).apply();
        let layer = tracing_subscriber::fmt::layer().with_writer(|| Log).with_ansi(false);
        // A subscriber that the process has already is kept.
        let _ = tracing_subscriber::registry().with(layer.with_filter(Wanted)).try_init();
        std::panic::set_hook(Box::new(log_panic));
        if level.is_err() {
            tracing::warn!(
                "SIGMAX_LOG: expected off, error, warn, info, debug or trace; got '{text}': taken as warn"
            );
        }
        Ok(())
    }
}
