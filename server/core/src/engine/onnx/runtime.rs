//! ONNX Runtime's shared library and its environment, of which a process has one.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::slice;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::engine::EngineError;
use crate::engine::onnx::errors::run_error;
use crate::engine::onnx::{division, heap};

/// The runtime of the process. It is global, for a process opens the library once, and the library
/// takes one environment.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

struct Runtime {
    library: PathBuf,
    version: String,
    environment: Environment,
}

/// Opens ONNX Runtime's shared library at this absolute path and returns its version.
///
/// The first call of a process decides: a later call with the same path changes nothing, and a call
/// with another path is an error. `ORT_DISABLE_TELEMETRY=1` must be in the environment before.
pub fn load_runtime(library: &Path) -> Result<String, EngineError> {
    let mut loaded = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*loaded {
        if runtime.library == library {
            return Ok(runtime.version.clone());
        }
        return Err(EngineError::Fault(format!(
            "ONNX Runtime is open as {}; a process cannot open {} too",
            runtime.library.display(),
            library.display()
        )));
    }
    let fault = |error: &dyn std::fmt::Display| {
        EngineError::Fault(format!("cannot open ONNX Runtime at {}: {error}", library.display()))
    };
    let environment = ort::init_from(library)
        .map_err(|error| fault(&error))?
        .with_name("sigmax")
        .with_telemetry(false)
        .build()
        .map_err(|error| fault(&error))?;
    heap::register(&environment)?;
    division::mend();
    // `ort` asks ONNX Runtime for every message, and each run has some, which would all be
    // formatted. Errors come back as results, so the library's own messages are only for those who
    // look for faults.
    let debug = tracing::enabled!(tracing::Level::DEBUG);
    environment.set_log_level(if debug { LogLevel::Warning } else { LogLevel::Fatal });
    let version = version(library);
    let runtime = Runtime { library: library.into(), version: version.clone(), environment };
    *loaded = Some(runtime);
    Ok(version)
}

/// The version that the library's file name ends in, or else the one that the library itself tells.
fn version(library: &Path) -> String {
    let file = fs::canonicalize(library).unwrap_or_else(|_| library.into());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match name.rsplit_once(".so.") {
        Some((_, version)) if version.contains('.') => version.into(),
        _ => ort::util::probe(library).map_or("unknown".into(), |minor| format!("1.{minor}")),
    }
}

/// The execution providers that the library has been built with, such as `CUDAExecutionProvider`,
/// the one that it prefers first. [`load_runtime`] must have been called before.
#[allow(unsafe_code)]
pub fn providers() -> Result<Vec<String>, EngineError> {
    environment()?;
    let (mut names, mut count) = (ptr::null_mut(), 0);
    // SAFETY: on success the library has given as many names as it says, each a C string of its
    // own, until they are released.
    unsafe {
        let status = (ort::api().GetAvailableProviders)(&mut names, &mut count);
        ort::Error::result_from_status(status).map_err(|error| run_error(&error))?;
        let list = slice::from_raw_parts(names, count as usize).iter();
        let list = list.map(|&name| CStr::from_ptr(name).to_string_lossy().into_owned()).collect();
        let status = (ort::api().ReleaseAvailableProviders)(names, count);
        ort::Error::result_from_status(status).map_err(|error| run_error(&error))?;
        Ok(list)
    }
}

/// The environment; an error before [`load_runtime`].
pub fn environment() -> Result<Environment, EngineError> {
    let runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let environment = runtime.as_ref().map(|runtime| runtime.environment.clone());
    // The check is made here, for `ort` would look for a library to make an error of its own.
    environment.ok_or_else(|| EngineError::Fault("ONNX Runtime has not been loaded".into()))
}
