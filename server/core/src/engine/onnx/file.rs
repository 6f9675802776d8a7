//! An opened ONNX file: its inputs and outputs, and engines for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ort::session::Session;
use ort::value::{Outlet, ValueType};

use crate::engine::onnx::buckets::{self, Bucketed};
use crate::engine::onnx::memory::Memory;
use crate::engine::onnx::session::{File, Options, Place, Plain};
use crate::engine::onnx::{content, cuda, extent, outside, ranks, value, weights};
use crate::engine::{Engine, EngineError, Source, thread};
use crate::file;
use crate::model::TensorSpec;
use crate::model::device::{Device, GpuOptions};
use crate::tensor::DType;

/// The most bytes of an ONNX file, which is one message of protobuf's.
const MOST_BYTES: u64 = i32::MAX as u64;

/// An ONNX file, which is read once: every session is made from the same bytes.
#[derive(Debug)]
pub struct OnnxFile {
    pub(super) file: Arc<File>,
    pub(super) inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    metadata: BTreeMap<String, String>,
    is_open: bool,
    /// The session that the opening has made; none once an engine has taken it.
    first: Mutex<Option<Session>>,
}

impl OnnxFile {
    /// Opens a file; [`load_runtime`](super::runtime::load_runtime) must have been called before.
    /// The file is read once, and so are weights in files beside it, of at most `most_bytes`
    /// together: whatever happens to the files later, engines stay what they are. An opening that
    /// is not done at `until` is given up.
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

    /// Opens the content of a file that is on no disk; `name` is for messages.
    pub fn of_content(name: &str, bytes: Vec<u8>, until: Instant) -> Result<Self, EngineError> {
        let file = File { path: name.into(), bytes, ..File::default() };
        let refuse = |_, _| Err("expected all weights inside the model, got external data".into());
        let checked = content::check(&file.bytes);
        match checked.and_then(|()| weights::put_inside(&file.bytes, refuse)) {
            Ok(_) => Self::in_time(Path::new(name), until, move || Self::of_file(file, until)),
            Err(error) => Err(file.fault(&error)),
        }
    }

    /// Opens a file on a thread of its own, for an opening that takes too long cannot always be
    /// ended.
    fn in_time(
        path: &Path,
        until: Instant,
        open: impl FnOnce() -> Result<Self, EngineError> + Send + 'static,
    ) -> Result<Self, EngineError> {
        let late = |reason: thread::Unfinished| {
            EngineError::Fault(format!("{}: {reason}", path.display()))
        };
        thread::apart(until, open).map_err(late).flatten()
    }

    fn of_file(file: File, until: Instant) -> Result<Self, EngineError> {
        let session = file.session(Place::default(), until)?;
        let named = |reason: String| file.fault(&reason);
        let mut inputs = specs("input", session.inputs()).map_err(named)?;
        for initializer in session.overridable_initializers() {
            // An initializer of a type that no client can send is a weight like any other.
            let input = spec("input", initializer.name(), initializer.dtype());
            inputs.extend(input.map(|input| TensorSpec { optional: true, ..input }));
        }
        let mut outputs = specs("output", session.outputs()).map_err(named)?;
        let open = ranks::open(&file.bytes);
        for tensor in inputs.iter_mut().chain(&mut outputs) {
            tensor.any_rank = tensor.dims.is_empty() && open.contains(&tensor.name);
        }
        Ok(Self {
            inputs,
            outputs,
            metadata: metadata(&session).map_err(named)?,
            is_open: extent::is_open(&file.bytes),
            file: file.into(),
            first: Mutex::new(Some(session)),
        })
    }

    /// Keeps only the optional inputs whose names are wanted.
    pub fn keep_optional(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.inputs.retain(|input| !input.optional || is_wanted(&input.name));
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// An engine for a device with memory of its own.
    pub(super) fn bucketed(
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
            // The session on the CPU would hold all weights for nothing.
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

fn specs(side: &str, outlets: &[Outlet]) -> Result<Vec<TensorSpec>, String> {
    outlets.iter().map(|outlet| spec(side, outlet.name(), outlet.dtype())).collect()
}

fn spec(side: &str, name: &str, kind: &ValueType) -> Result<TensorSpec, String> {
    let ValueType::Tensor { ty, shape, .. } = kind else {
        let cure = match kind {
            ValueType::Sequence(of) if matches!(**of, ValueType::Map { .. }) => {
                "; `sigmax describe` takes out the ZipMap that makes it, and so does zipmap=False \
                 in skl2onnx"
            }
            _ => "",
        };
        return Err(format!("{side} '{name}': expected a tensor, got {kind}{cure}"));
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
