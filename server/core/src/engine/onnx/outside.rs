//! Weights that lie in files beside a model: they are read once, and given to every session.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytemuck::Pod;
use half::{bf16, f16};
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};

use crate::engine::onnx::weights::{Outside, Place, put_inside};
use crate::file::Regular;
use crate::tensor::DType;

/// The least bytes of a tensor that is worth sharing. ONNX Runtime wants to see smaller tensors in
/// the model, such as axes and shapes.
const LEAST_SHARED: u64 = 1024;

/// The weights of a model's graph that are not in its file, each with its name.
pub(super) type Weights = Vec<(String, Arc<DynValue>)>;

/// The folder of a model, with the files in it that have been read.
struct Folder {
    path: PathBuf,
    open: BTreeMap<String, Regular>,
    /// The bytes that may still be read.
    left: u64,
}

/// Reads all data that lies outside a model, from the model's own folder, of at most `most_bytes`.
/// Weights of the graph itself, which are the largest part, are kept once for all sessions; all
/// other data is put into the model.
pub(super) fn gather(
    model: Vec<u8>,
    path: &Path,
    most_bytes: u64,
) -> Result<(Vec<u8>, Weights), String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut folder = Folder {
        path: parent.unwrap_or(Path::new(".")).into(),
        open: BTreeMap::new(),
        left: most_bytes,
    };
    let mut weights = Weights::new();
    let rewritten = put_inside(&model, |outside, may_stay| {
        let size = size(&outside)?;
        let is_large = may_stay && size.is_some_and(|size| size >= LEAST_SHARED);
        let value = if is_large { folder.value(&outside)? } else { None };
        Ok(match value {
            Some(value) => {
                weights.push((outside.name, value));
                Place::Beside
            }
            None => Place::Inside(folder.bytes(&outside, size)?),
        })
    })?;
    folder.check_unchanged()?;
    Ok((rewritten.unwrap_or(model), weights))
}

/// Gives a session its weights. Sessions on the CPU share them.
pub(super) fn give(
    mut builder: SessionBuilder,
    weights: &Weights,
    on_cpu: bool,
) -> ort::Result<SessionBuilder> {
    for (name, value) in weights {
        builder = builder.with_external_initializer(name, value.clone())?;
        // Without this call every session has a copy of its own.
        if on_cpu {
            builder = builder.with_initializer(name, value.clone())?;
        }
    }
    Ok(builder)
}

/// The bytes of a tensor by its type and sizes; none where its type has no fixed size or is not
/// known.
fn size(outside: &Outside) -> Result<Option<u64>, String> {
    let Outside { data_type, dims, length, .. } = outside;
    let dtype = DType::from_onnx(*data_type).filter(|dtype| *dtype != DType::Bytes);
    let Some(dtype) = dtype else { return Ok(None) };
    let bytes = dims.iter().try_fold(dtype.size() as u64, |product, &dim| {
        u64::try_from(dim).ok().and_then(|dim| product.checked_mul(dim))
    });
    let bytes = bytes.ok_or_else(|| format!("expected sizes of a tensor, got {dims:?}"))?;
    match length {
        Some(length) if *length != bytes => {
            Err(format!("expected {bytes} bytes for its sizes {dims:?}, got {length}"))
        }
        _ => Ok(Some(bytes)),
    }
}

impl Folder {
    /// The tensor as a value; none where its type cannot be made one here.
    fn value(&mut self, outside: &Outside) -> Result<Option<Arc<DynValue>>, String> {
        match DType::from_onnx(outside.data_type) {
            Some(DType::Uint8) => self.typed::<u8>(outside),
            Some(DType::Uint16) => self.typed::<u16>(outside),
            Some(DType::Uint32) => self.typed::<u32>(outside),
            Some(DType::Uint64) => self.typed::<u64>(outside),
            Some(DType::Int8) => self.typed::<i8>(outside),
            Some(DType::Int16) => self.typed::<i16>(outside),
            Some(DType::Int32) => self.typed::<i32>(outside),
            Some(DType::Int64) => self.typed::<i64>(outside),
            Some(DType::Fp16) => self.typed::<f16>(outside),
            Some(DType::Bf16) => self.typed::<bf16>(outside),
            Some(DType::Fp32) => self.typed::<f32>(outside),
            Some(DType::Fp64) => self.typed::<f64>(outside),
            Some(DType::Bool | DType::Bytes) | None => Ok(None),
        }
    }

    fn typed<T: Pod + PrimitiveTensorElementType + Debug>(
        &mut self,
        outside: &Outside,
    ) -> Result<Option<Arc<DynValue>>, String> {
        let Some(bytes) = size(outside)? else { return Ok(None) };
        self.take(outside, bytes)?;
        let elements = bytemuck::allocation::try_zeroed_vec::<T>(bytes as usize / size_of::<T>());
        let mut elements =
            elements.map_err(|()| format!("there is no memory for {bytes} bytes"))?;
        self.fill(outside, bytemuck::cast_slice_mut(&mut elements))?;
        let value = Tensor::from_array((outside.dims.clone(), elements));
        Ok(Some(Arc::new(value.map_err(|error| error.to_string())?.into_dyn())))
    }

    /// The tensor's bytes as they lie in the file. Where `size` is not known, they are the stated
    /// length, or all up to the file's end.
    fn bytes(&mut self, outside: &Outside, size: Option<u64>) -> Result<Vec<u8>, String> {
        let rest = self.open(&outside.file)?.size().saturating_sub(outside.offset);
        let length = size.or(outside.length).unwrap_or(rest);
        self.take(outside, length)?;
        let bytes = bytemuck::allocation::try_zeroed_vec::<u8>(length as usize);
        let mut bytes = bytes.map_err(|()| format!("there is no memory for {length} bytes"))?;
        self.fill(outside, &mut bytes)?;
        Ok(bytes)
    }

    /// Takes `bytes` of what may still be read; an error where the file does not have them, or
    /// where they are more than may be read.
    fn take(&mut self, outside: &Outside, bytes: u64) -> Result<(), String> {
        let Outside { file, offset, .. } = outside;
        let size = self.open(file)?.size();
        if offset.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(format!(
                "expected {bytes} bytes from {offset} on in {file}, which has {size}"
            ));
        }
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!("with its {bytes} bytes the model's weights are more than memory can hold")
        })?;
        Ok(())
    }

    fn fill(&mut self, outside: &Outside, buffer: &mut [u8]) -> Result<(), String> {
        let Outside { file, offset, .. } = outside;
        self.open(file)?.read_at(buffer, *offset).map_err(|error| format!("{file}: {error}"))
    }

    /// The file of this name, which is opened once.
    fn open(&mut self, name: &str) -> Result<&Regular, String> {
        if !self.open.contains_key(name) {
            let regular = self.path_of(name).and_then(|path| Regular::open(&path));
            self.open.insert(name.into(), regular.map_err(|error| format!("{name}: {error}"))?);
        }
        Ok(&self.open[name])
    }

    /// The path of a file by the name that the model has for it; an error where the name leads out
    /// of the folder. Links may lead out of it: who makes them is who puts the model there.
    fn path_of(&self, name: &str) -> Result<PathBuf, String> {
        let is_plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        match !name.is_empty() && Path::new(name).components().all(is_plain) {
            true => Ok(self.path.join(name)),
            false => Err(format!("expected a file in the model's folder, {}", self.path.display())),
        }
    }

    fn check_unchanged(&self) -> Result<(), String> {
        for (name, regular) in &self.open {
            regular.check_unchanged().map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }
}
