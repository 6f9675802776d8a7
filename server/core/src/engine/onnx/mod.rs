//! ONNX Runtime behind the seam: the only folder that names `ort`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr;
use std::slice;
use std::sync::{Mutex, PoisonError};

use bytemuck::checked::{self, CheckedBitPattern};
use bytes::{Bytes, BytesMut};
use half::{bf16, f16};
use ort::AsPointer;
use ort::environment::Environment;
use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{self, ArenaExtendStrategy};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorElementType, TensorRef, ValueType};

use super::device::{Device, GpuOptions};
use super::{Engine, EngineError, Source, weights};
use crate::model::TensorSpec;
use crate::strings;
use crate::tensor::{DType, Tensor, TensorView};

mod graph;

/// The library can be opened once a process, and takes one environment: so this is global.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

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
    environment().map_err(|error| EngineError::Fault(error.to_string()))?;
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

/// Runs a small network on a device; the error has ONNX Runtime's own words.
pub fn try_device(device: Device) -> Result<(), EngineError> {
    let fault = |error: &dyn std::fmt::Display| EngineError::Fault(format!("{device}: {error}"));
    let build = || {
        let builder = builder(Path::new(""))?;
        on(builder, device, GpuOptions::default())?.commit_from_memory(&graph::doubling())
    };
    let mut session = build().map_err(|error| fault(&error))?;
    let input = TensorRef::from_array_view(([1usize, 2], &[1.0f32, -3.0][..]));
    let run = |input| {
        let outputs = session.run(vec![("x", SessionInputValue::from(input))])?;
        Ok(outputs[0].try_extract_tensor::<f32>()?.1.to_vec())
    };
    match input.and_then(run).map_err(|error: ort::Error| fault(&error))?.as_slice() {
        [2.0, -6.0] => Ok(()),
        came => Err(fault(&format!("expected twice [1, -3], got {came:?}"))),
    }
}

/// An ONNX file, read once: every session is made from the same bytes.
#[derive(Debug)]
pub struct OnnxFile {
    path: PathBuf,
    bytes: Vec<u8>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    metadata: BTreeMap<String, String>,
    /// The session that opening has made, until an engine takes it.
    first: Mutex<Option<Session>>,
}

impl OnnxFile {
    /// Opens a file, after [`load_runtime`].
    ///
    /// A file that cannot be read, is no valid model, needs an unknown operator, or has an input or
    /// output that is no tensor of a [`DType`], is a fault that names the file and the reason.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        Self::read(path)
            .map_err(|reason| EngineError::Fault(format!("{}: {reason}", path.display())))
    }

    /// Opens the content of a file that lies nowhere; `name` is for messages.
    pub fn of_content(name: &str, bytes: Vec<u8>) -> Result<Self, EngineError> {
        let path = Path::new(name);
        let opened = match weights::are_inside(&bytes) {
            Ok(true) => Self::of_bytes(path, bytes),
            Ok(false) => Err("expected all weights inside the model, got external data".into()),
            Err(error) => Err(error),
        };
        opened.map_err(|reason| EngineError::Fault(format!("{name}: {reason}")))
    }

    fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        Self::of_bytes(path, bytes)
    }

    fn of_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, String> {
        let session = session(path, &bytes).map_err(|error| error.to_string())?;
        let mut inputs = specs("input", session.inputs())?;
        for initializer in session.overridable_initializers() {
            // One that no client can give is a weight like any other.
            let input = spec("input", initializer.name(), initializer.dtype());
            inputs.extend(input.map(|input| TensorSpec { optional: true, ..input }));
        }
        Ok(Self {
            inputs,
            outputs: specs("output", session.outputs())?,
            metadata: metadata(&session)?,
            path: path.into(),
            bytes,
            first: Mutex::new(Some(session)),
        })
    }

    /// Serves only these of the optional inputs.
    pub fn keep_optional(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.inputs.retain(|input| !input.optional || is_wanted(&input.name));
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
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

    fn engine(&self, device: Device, gpu: GpuOptions) -> Result<Box<dyn Engine>, EngineError> {
        let fault = |error: ort::Error| {
            EngineError::Fault(format!("{}: {}", self.path.display(), error.message()))
        };
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = match first {
            Some(session) => session,
            None => session(&self.path, &self.bytes).map_err(fault)?,
        };
        let inputs = self.inputs.iter();
        let inputs = inputs.map(|input| (input.name.clone(), input.dims.is_empty())).collect();
        Ok(Box::new(OnnxEngine { session, inputs }))
    }
}

/// A session on one thread: the shards are the parallelism, so it needs none of its own.
fn session(path: &Path, bytes: &[u8]) -> ort::Result<Session> {
    builder(path)?.commit_from_memory(bytes)
}

fn environment() -> ort::Result<Environment> {
    RUNTIME
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .map(|runtime| runtime.environment.clone())
        .ok_or_else(|| ort::Error::new("ONNX Runtime has not been loaded"))
}

/// What every session has in common; the path is that of its file.
fn builder(path: &Path) -> ort::Result<SessionBuilder> {
    let environment = environment()?;
    // Where weights that are not in the file itself are looked for.
    let folder = path.parent().unwrap_or(Path::new("")).to_string_lossy();
    Session::builder(&environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_deterministic_compute(true)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // Patterns are kept for every shape ever seen, and cost a tenth where batch sizes vary.
        .with_memory_pattern(false)?
        .with_config_entry("session.model_external_initializers_file_folder_path", folder)
        .map_err(ort::Error::from)
}

/// Has a session run on a device, or fail: never on another one.
fn on(builder: SessionBuilder, device: Device, gpu: GpuOptions) -> ort::Result<SessionBuilder> {
    let Device::Cuda(number) = device else { return Ok(builder) };
    let mut cuda = ep::CUDA::default()
        .with_device_id(number as i32)
        // A larger step than asked for is memory that no other model has.
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        // The default tries every algorithm, and what it takes then depends on the moment.
        .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
        // The library's own default is on.
        .with_tf32(gpu.tf32);
    if gpu.memory_limit > 0 {
        cuda = cuda.with_memory_limit(gpu.memory_limit);
    }
    Ok(builder.with_execution_providers([cuda.build().error_on_failure()])?)
}

fn specs(side: &str, outlets: &[Outlet]) -> Result<Vec<TensorSpec>, String> {
    outlets.iter().map(|outlet| spec(side, outlet.name(), outlet.dtype())).collect()
}

fn spec(side: &str, name: &str, kind: &ValueType) -> Result<TensorSpec, String> {
    let ValueType::Tensor { ty, shape, .. } = kind else {
        return Err(format!("{side} '{name}': expected a tensor, got {kind}"));
    };
    let dtype = dtype(*ty).ok_or_else(|| {
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

fn dtype(element: TensorElementType) -> Option<DType> {
    Some(match element {
        TensorElementType::Bool => DType::Bool,
        TensorElementType::Uint8 => DType::Uint8,
        TensorElementType::Uint16 => DType::Uint16,
        TensorElementType::Uint32 => DType::Uint32,
        TensorElementType::Uint64 => DType::Uint64,
        TensorElementType::Int8 => DType::Int8,
        TensorElementType::Int16 => DType::Int16,
        TensorElementType::Int32 => DType::Int32,
        TensorElementType::Int64 => DType::Int64,
        TensorElementType::Float16 => DType::Fp16,
        TensorElementType::Bfloat16 => DType::Bf16,
        TensorElementType::Float32 => DType::Fp32,
        TensorElementType::Float64 => DType::Fp64,
        TensorElementType::String => DType::Bytes,
        _ => return None,
    })
}

/// Runs a file's graph on the CPU.
#[derive(Debug)]
pub struct OnnxEngine {
    session: Session,
    /// Each with whether the graph takes it as a scalar, whatever axes of size 1 clients send.
    inputs: Vec<(String, bool)>,
}

impl Engine for OnnxEngine {
    fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError> {
        let mut values = Vec::with_capacity(inputs.len());
        for ((name, is_scalar), view) in self.inputs.iter().zip(inputs) {
            if let Some(mut view) = *view {
                if *is_scalar {
                    view.shape = &[];
                }
                values.push((Cow::Borrowed(&**name), borrowed(&view)?));
            }
        }
        let outputs = self.session.run(values).map_err(|error| run_error(&error))?;
        (0..outputs.len()).map(|index| copied(&outputs[index])).collect()
    }
}

/// Evaluates an expression with a name for the Rust type of a [`DType`]'s elements; strings, which
/// have none, by an expression of their own.
macro_rules! with_type {
    ($dtype:expr, $T:ident => $body:expr, strings => $strings:expr) => {
        match $dtype {
            DType::Bool => with_type!(@ bool, $T => $body),
            DType::Uint8 => with_type!(@ u8, $T => $body),
            DType::Uint16 => with_type!(@ u16, $T => $body),
            DType::Uint32 => with_type!(@ u32, $T => $body),
            DType::Uint64 => with_type!(@ u64, $T => $body),
            DType::Int8 => with_type!(@ i8, $T => $body),
            DType::Int16 => with_type!(@ i16, $T => $body),
            DType::Int32 => with_type!(@ i32, $T => $body),
            DType::Int64 => with_type!(@ i64, $T => $body),
            DType::Fp16 => with_type!(@ f16, $T => $body),
            DType::Bf16 => with_type!(@ bf16, $T => $body),
            DType::Fp32 => with_type!(@ f32, $T => $body),
            DType::Fp64 => with_type!(@ f64, $T => $body),
            DType::Bytes => $strings,
        }
    };
    (@ $rust:ty, $T:ident => $body:expr) => {{
        type $T = $rust;
        $body
    }};
}

/// A value over the view's own bytes.
fn borrowed<'a>(view: &TensorView<'a>) -> Result<SessionInputValue<'a>, EngineError> {
    let fault = |error: &dyn std::fmt::Display| {
        EngineError::Fault(format!("{} {:?}: {error}", view.dtype.name(), view.shape))
    };
    with_type!(view.dtype, T => {
        let elements: &[T] = elements(view.data).map_err(|error| fault(&error))?;
        let value = TensorRef::from_array_view((view.shape, elements)).map_err(|error| fault(&error))?;
        Ok(value.into())
    }, strings => {
        let value = string_tensor(view).map_err(|error| fault(&error))?;
        Ok(value.into())
    })
}

/// A value with these strings. ONNX Runtime's strings are bytes of any kind, but `ort` would end
/// them at a NUL and refuse what is no UTF-8: so each is put into the value's own memory.
#[allow(unsafe_code)]
fn string_tensor(view: &TensorView<'_>) -> ort::Result<ort::value::Tensor<String>> {
    let empty = vec![""; view.shape.iter().product()];
    let mut value = ort::value::Tensor::from_string_array((view.shape, &*empty))?;
    for (index, element) in strings::elements(view.data).enumerate() {
        let mut buffer = ptr::null_mut();
        // SAFETY: the value is a string tensor of more elements than the index, and nothing else
        // knows it yet; on success the buffer is its element's own, of the length asked for.
        unsafe {
            let status = (ort::api().GetResizedStringTensorElementBuffer)(
                value.ptr_mut(),
                index,
                element.len(),
                &mut buffer,
            );
            ort::Error::result_from_status(status)?;
            ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast(), element.len());
        }
    }
    Ok(value)
}

/// The strings of a value, as a BYTES tensor holds them.
#[allow(unsafe_code)]
fn strings_of(value: &DynValue, count: usize) -> ort::Result<BytesMut> {
    let mut size = 0;
    // SAFETY: the value is a string tensor, and the size is written to memory of ours.
    unsafe {
        let status = (ort::api().GetStringTensorDataLength)(value.ptr(), &mut size);
        ort::Error::result_from_status(status)?;
    }
    let mut text = vec![0u8; size];
    let mut starts = vec![0; count];
    // SAFETY: as above; both buffers are as long as is said.
    unsafe {
        let status = (ort::api().GetStringTensorContent)(
            value.ptr(),
            text.as_mut_ptr().cast(),
            size,
            starts.as_mut_ptr(),
            count,
        );
        ort::Error::result_from_status(status)?;
    }
    let mut data = BytesMut::with_capacity(size + 4 * count);
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(size);
        strings::put(&text[*start..end], &mut data);
    }
    Ok(data)
}

fn elements<T: CheckedBitPattern>(data: &[u8]) -> Result<&[T], checked::CheckedCastError> {
    // Nothing may lie at any address.
    if data.is_empty() { Ok(&[]) } else { checked::try_cast_slice(data) }
}

fn copied(value: &DynValue) -> Result<Tensor, EngineError> {
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err(EngineError::Fault(format!(
            "expected a tensor, the graph gave {}",
            value.dtype()
        )));
    };
    let dtype = dtype(*ty)
        .ok_or_else(|| EngineError::Fault(format!("the graph gave elements of type {ty}")))?;
    with_type!(dtype, T => {
        let (shape, elements) = value.try_extract_tensor::<T>().map_err(|error| run_error(&error))?;
        Ok(Tensor {
            dtype,
            shape: shape.iter().map(|&dim| dim as usize).collect(),
            data: Bytes::copy_from_slice(bytemuck::cast_slice(elements)),
        })
    }, strings => {
        let shape: Vec<_> = value.shape().iter().map(|&dim| dim as usize).collect();
        let data = strings_of(value, shape.iter().product()).map_err(|error| run_error(&error))?;
        Ok(Tensor { dtype, shape, data: data.freeze() })
    })
}

/// What a kernel says of values that it does not take is the caller's, all else is ours.
fn run_error(error: &ort::Error) -> EngineError {
    let text = error.message();
    // A division by zero carries no code of its own.
    let refused = error.code() == ort::ErrorCode::InvalidArgument
        || text.contains("Integer division by zero")
        || text.contains("Integer modulo by zero");
    if refused { EngineError::Refused(text.into()) } else { EngineError::Fault(text.into()) }
}
