//! Conversions of tensors to ONNX Runtime's values, and back.

use std::ptr;

use bytemuck::checked::{self, CheckedBitPattern};
use bytes::{Bytes, BytesMut};
use half::{bf16, f16};
use ort::AsPointer;
use ort::session::SessionInputValue;
use ort::value::{DynValue, TensorElementType, TensorRef, ValueType};

use super::errors::run_error;
use crate::engine::EngineError;
use crate::tensor::strings;
use crate::tensor::{DType, Tensor, TensorView, byte_size};

/// The pairs of ONNX Runtime's element types and ours.
const ELEMENTS: [(TensorElementType, DType); 14] = [
    (TensorElementType::Bool, DType::Bool),
    (TensorElementType::Uint8, DType::Uint8),
    (TensorElementType::Uint16, DType::Uint16),
    (TensorElementType::Uint32, DType::Uint32),
    (TensorElementType::Uint64, DType::Uint64),
    (TensorElementType::Int8, DType::Int8),
    (TensorElementType::Int16, DType::Int16),
    (TensorElementType::Int32, DType::Int32),
    (TensorElementType::Int64, DType::Int64),
    (TensorElementType::Float16, DType::Fp16),
    (TensorElementType::Bfloat16, DType::Bf16),
    (TensorElementType::Float32, DType::Fp32),
    (TensorElementType::Float64, DType::Fp64),
    (TensorElementType::String, DType::Bytes),
];

/// Our type for ONNX Runtime's; none where such elements cannot be served.
pub(super) fn dtype(element: TensorElementType) -> Option<DType> {
    ELEMENTS.iter().find(|(one, _)| *one == element).map(|(_, dtype)| *dtype)
}

/// ONNX Runtime's type for ours.
pub(super) fn element(dtype: DType) -> TensorElementType {
    let known = ELEMENTS.iter().find(|(_, one)| *one == dtype);
    known.map_or(TensorElementType::Undefined, |(element, _)| *element)
}

/// Evaluates an expression with a name for the Rust type of a [`DType`]'s elements. Strings have no
/// such type, and are evaluated by an expression of their own.
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

/// A value over the view's own bytes; strings are copied.
pub(super) fn borrowed<'a>(view: &TensorView<'a>) -> Result<SessionInputValue<'a>, EngineError> {
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

/// A value with copies of these strings. ONNX Runtime's strings are bytes of any kind, but `ort`
/// would end them at a NUL and refuse bytes that are no UTF-8. So each string is written into the
/// value's own memory.
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

/// The strings of a value, in the layout of a BYTES tensor.
#[allow(unsafe_code)]
fn strings_of(value: &DynValue, count: usize) -> ort::Result<BytesMut> {
    let size = strings_size(value)?;
    let mut text = vec![0u8; size];
    let mut starts = vec![0; count];
    // SAFETY: the value is a string tensor; both buffers are as long as is said.
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
    // An empty slice may lie at any address.
    if data.is_empty() { Ok(&[]) } else { checked::try_cast_slice(data) }
}

/// The bytes that a copy of a value's elements takes; 0 where that cannot be told.
pub(super) fn size(value: &DynValue) -> usize {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else { return 0 };
    let shape: Vec<_> = shape.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
    match dtype(*ty) {
        None => 0,
        Some(DType::Bytes) => strings_size(value).unwrap_or(0).saturating_add(
            shape.iter().fold(size_of::<u32>(), |size, &dim| size.saturating_mul(dim)),
        ),
        Some(dtype) => byte_size(dtype, &shape).unwrap_or(usize::MAX),
    }
}

/// The number of bytes of all strings of a value together.
#[allow(unsafe_code)]
fn strings_size(value: &DynValue) -> ort::Result<usize> {
    let mut size = 0;
    // SAFETY: the value is a string tensor, and the size is written to memory of ours.
    unsafe {
        let status = (ort::api().GetStringTensorDataLength)(value.ptr(), &mut size);
        ort::Error::result_from_status(status)?;
    }
    Ok(size)
}

pub(super) fn copied(value: &DynValue) -> Result<Tensor, EngineError> {
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
