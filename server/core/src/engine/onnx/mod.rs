//! ONNX Runtime behind the seam: the only folder that names `ort`.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::value::{Outlet, ValueType};

use self::buckets::Bucketed;
use self::memory::Memory;
use self::said::brief;
use self::session::{File, Options, Place, Plain};
use super::{Engine, EngineError, Source};
use crate::engine::thread;
use crate::engine::watchdog;
use crate::file;
use crate::loading::golden;
use crate::model::TensorSpec;
use crate::model::device::{Device, GpuOptions};
use crate::tensor::{DType, Tensor};

mod binding;
mod buckets;
mod content;
mod cuda;
mod division;
mod extent;
mod graph;
mod heap;
mod memory;
mod outside;
mod said;
mod session;
#[cfg(test)]
mod tests;
mod value;
mod weights;

/// The library can be opened once a process, and takes one environment: so this is global.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// The longest that the trial of a device takes: CUDA has much to load the first time.
const TRIAL: Duration = Duration::from_secs(300);

struct Runtime {
    library: PathBuf,
    version: String,
    environment: Environment,
}

/// Opens ONNX Runtime's shared library at this absolute path and returns its version.
///
/// The first call of a process decides: a later one with the same path changes nothing, one with
/// another path is an error. `ORT_DISABLE_TELEMETRY=1` must be set before, in the environment.
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
    // `ort` asks for every message, and each run has some: the runtime would format them all.
    // Errors come back as results, so its own messages are for those who look for faults.
    let debug = tracing::enabled!(tracing::Level::DEBUG);
    environment.set_log_level(if debug { LogLevel::Warning } else { LogLevel::Fatal });
    let version = version(library);
    let runtime = Runtime { library: library.into(), version: version.clone(), environment };
    *loaded = Some(runtime);
    Ok(version)
}

/// The version that the library's file name ends in, else the one that the library tells.
fn version(library: &Path) -> String {
    let file = fs::canonicalize(library).unwrap_or_else(|_| library.into());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match name.rsplit_once(".so.") {
        Some((_, version)) if version.contains('.') => version.into(),
        _ => ort::util::probe(library).map_or("unknown".into(), |minor| format!("1.{minor}")),
    }
}

/// The providers that the library has been built with, such as `CUDAExecutionProvider`, the one that
/// it would rather have first; after [`load_runtime`].
#[allow(unsafe_code)]
pub fn providers() -> Result<Vec<String>, EngineError> {
    environment()?;
    let (mut names, mut count) = (ptr::null_mut(), 0);
    // SAFETY: on success the library has given as many names as it says, each a C string of its own,
    // until they are released.
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

/// Runs a small network on a device: first as it comes, then as models are run there. The error has
/// the words of ONNX Runtime, or of CUDA.
pub fn try_device(device: Device) -> Result<(), EngineError> {
    let until = watchdog::from_now(TRIAL);
    let opened = OnnxFile::of_content(&device.to_string(), graph::trial(), until)?;
    buckets::undisturbed(|| {
        let session = opened.file.session(Place { device, ..Place::default() }, until)?;
        try_engine(&mut Plain::new(session, &opened.inputs, Options::plain()?))
    })?;
    let mut engine = opened.engine(device, GpuOptions::default(), until)?;
    engine.prepare(2)?;
    try_engine(&mut *engine)
}

fn try_engine(engine: &mut dyn Engine) -> Result<(), EngineError> {
    for rows in [1, 2] {
        let data = golden::aligned(bytemuck::cast_slice(&[1.0f32, -3.0].repeat(rows)));
        let input = Tensor { dtype: DType::Fp32, shape: vec![rows, 2], data };
        let came = engine.run(&[Some(input.view())])?;
        let expected: &[u8] = bytemuck::cast_slice(&[2.0f32, 0.0]);
        if came.len() != 1 || *came[0].data != *expected.repeat(rows) {
            let expected = format!("expected of {input:?} what is positive of its double");
            return Err(EngineError::Fault(format!("{expected}, got {came:?}")));
        }
    }
    Ok(())
}

/// The most bytes of an ONNX file, which is one message of protobuf's.
const MOST_BYTES: u64 = i32::MAX as u64;

/// An ONNX file, read once: every session is made from the same bytes.
#[derive(Debug)]
pub struct OnnxFile {
    file: Arc<File>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    metadata: BTreeMap<String, String>,
    is_open: bool,
    /// The session that opening has made, until an engine takes it.
    first: Mutex<Option<Session>>,
}

impl OnnxFile {
    /// Opens a file, after [`load_runtime`]. It is read once, and so are weights in files beside it,
    /// of at most so many bytes together: whatever happens to the files, engines stay what they are.
    /// What takes longer than until then is given up.
    ///
    /// A file that cannot be read, is no valid model, needs an unknown operator, or has an input or
    /// output that is no tensor of a [`DType`], is a fault that names the file and the reason.
    pub fn open(path: &Path, most_bytes: u64, until: Instant) -> Result<Self, EngineError> {
        let file = File { path: path.into(), ..File::default() };
        Self::in_time(path, until, move || {
            let read = || {
                let bytes = file::read(&file.path, MOST_BYTES)?;
                content::check(&bytes)?;
                outside::gather(bytes, &file.path, most_bytes)
            };
            match read() {
                Ok((bytes, weights)) => Self::of_file(File { bytes, weights, ..file }, until),
                Err(error) => Err(file.fault(&error)),
            }
        })
    }

    /// Opens the content of a file that lies nowhere; `name` is for messages.
    pub fn of_content(name: &str, bytes: Vec<u8>, until: Instant) -> Result<Self, EngineError> {
        let file = File { path: name.into(), bytes, ..File::default() };
        let refuse = |_, _| Err("expected all weights inside the model, got external data".into());
        let checked = content::check(&file.bytes);
        match checked.and_then(|()| weights::put_inside(&file.bytes, refuse)) {
            Ok(_) => Self::in_time(Path::new(name), until, move || Self::of_file(file, until)),
            Err(error) => Err(file.fault(&error)),
        }
    }

    /// Opens a file on a thread of its own: not everything that takes too long can be ended.
    fn in_time(
        path: &Path,
        until: Instant,
        open: impl FnOnce() -> Result<Self, EngineError> + Send + 'static,
    ) -> Result<Self, EngineError> {
        let late = |reason| EngineError::Fault(format!("{}: {reason}", path.display()));
        thread::apart(until, open).map_err(late).flatten()
    }

    fn of_file(file: File, until: Instant) -> Result<Self, EngineError> {
        let session = file.session(Place::default(), until)?;
        let named = |reason: String| file.fault(&reason);
        let mut inputs = specs("input", session.inputs()).map_err(named)?;
        for initializer in session.overridable_initializers() {
            // One that no client can give is a weight like any other.
            let input = spec("input", initializer.name(), initializer.dtype());
            inputs.extend(input.map(|input| TensorSpec { optional: true, ..input }));
        }
        Ok(Self {
            inputs,
            outputs: specs("output", session.outputs()).map_err(named)?,
            metadata: metadata(&session).map_err(named)?,
            is_open: extent::is_open(&file.bytes),
            file: file.into(),
            first: Mutex::new(Some(session)),
        })
    }

    /// Serves only these of the optional inputs.
    pub fn keep_optional(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.inputs.retain(|input| !input.optional || is_wanted(&input.name));
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    fn bucketed(
        &self,
        memory: Box<dyn Memory>,
        place: Place,
        until: Instant,
    ) -> Result<Bucketed, EngineError> {
        Bucketed::new(self.file.clone(), &self.inputs, &self.outputs, memory, place, until)
    }

    /// The file's own key-value metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

impl Source for OnnxFile {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn is_open(&self) -> bool {
        self.is_open
    }

    fn engine(
        &self,
        device: Device,
        gpu: GpuOptions,
        until: Instant,
    ) -> Result<Box<dyn Engine>, EngineError> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Device::Cuda(number) = device {
            // It would hold all weights for nothing.
            drop(first);
            let memory = buckets::undisturbed(|| cuda::Runtime::open()?.memory(number))?;
            let place = Place { device, gpu, graphs: true, ..Place::default() };
            return Ok(Box::new(self.bucketed(Box::new(memory), place, until)?));
        }
        let session = match first {
            Some(session) => session,
            None => self.file.session(Place::default(), until)?,
        };
        Ok(Box::new(Plain::new(session, &self.inputs, Options::plain()?)))
    }
}

fn environment() -> Result<Environment, EngineError> {
    let runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let environment = runtime.as_ref().map(|runtime| runtime.environment.clone());
    // Not an error of `ort`, which would look for a library to make one.
    environment.ok_or_else(|| EngineError::Fault("ONNX Runtime has not been loaded".into()))
}

fn specs(side: &str, outlets: &[Outlet]) -> Result<Vec<TensorSpec>, String> {
    outlets.iter().map(|outlet| spec(side, outlet.name(), outlet.dtype())).collect()
}

fn spec(side: &str, name: &str, kind: &ValueType) -> Result<TensorSpec, String> {
    let ValueType::Tensor { ty, shape, .. } = kind else {
        return Err(format!("{side} '{name}': expected a tensor, got {kind}"));
    };
    let dtype = value::dtype(*ty).ok_or_else(|| {
        let known = DType::ALL.map(DType::name).join(", ");
        format!("{side} '{name}': expected elements of one of {known}; got {ty}")
    })?;
    Ok(TensorSpec::new(name, dtype, shape))
}

fn metadata(session: &Session) -> Result<BTreeMap<String, String>, String> {
    let metadata = session.metadata().map_err(|error| error.to_string())?;
    let keys = metadata.custom_keys().map_err(|error| format!("metadata: {error}"))?;
    keys.into_iter()
        .map(|key| match metadata.custom(&key) {
            Some(value) => Ok((key, value)),
            None => Err(format!("metadata '{key}': expected UTF-8 text")),
        })
        .collect()
}

/// What a kernel says of values that it does not take is the caller's; what CUDA and its libraries
/// say is the device's; all else is ours.
fn run_error(error: &ort::Error) -> EngineError {
    let text = error.message();
    // A division by zero carries no code of its own.
    let refused = error.code() == ort::ErrorCode::InvalidArgument
        || text.contains("Integer division by zero")
        || text.contains("Integer modulo by zero");
    // "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=...", and the
    // same of CUBLAS, CUDNN, ...; "CUDA error cudaErrorIllegalAddress:an illegal memory access ...".
    // Too little memory is no end of what there is.
    let is_cudas =
        (text.contains(" failure ") && text.contains("; GPU=")) || text.contains("CUDA error cuda");
    let lost = is_cudas && !text.contains("out of memory");
    let told = brief(text);
    match (refused, lost) {
        (_, true) => EngineError::Device(told),
        (true, _) => EngineError::Refused(told),
        _ => EngineError::Fault(told),
    }
}
