//! Typed contents of a ModelInferRequest, as the bytes of the datatype that they are for.

use bytes::{Bytes, BytesMut};

use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::proto::inference::InferTensorContents;
use crate::tensor::DType;
use crate::tensor::strings;

/// The bytes of an input's elements. Integers that are wider on the wire lose their upper bytes.
///
/// `dtype` is the type that the request claims; none where the claim is no datatype.
pub fn bytes(
    model: &ModelSpec,
    input: &str,
    dtype: Option<DType>,
    contents: &InferTensorContents,
) -> Result<Bytes> {
    let c = contents;
    let lists: [(DType, &[DType], usize); 8] = [
        (DType::Bool, &[DType::Bool], c.bool_contents.len()),
        (DType::Int32, &[DType::Int8, DType::Int16, DType::Int32], c.int_contents.len()),
        (DType::Int64, &[DType::Int64], c.int64_contents.len()),
        (DType::Uint32, &[DType::Uint8, DType::Uint16, DType::Uint32], c.uint_contents.len()),
        (DType::Uint64, &[DType::Uint64], c.uint64_contents.len()),
        (DType::Fp32, &[DType::Fp32], c.fp32_contents.len()),
        (DType::Fp64, &[DType::Fp64], c.fp64_contents.len()),
        (DType::Bytes, &[DType::Bytes], c.bytes_contents.len()),
    ];
    let mut given = lists.iter().filter(|(_, _, len)| *len > 0);
    let Some((name, fitting, _)) = given.next() else {
        return Ok(Bytes::new());
    };
    let (model, input) = (model.name.clone(), input.to_owned());
    let Some(dtype) = dtype.filter(|dtype| fitting.contains(dtype)) else {
        let expected = dtype.map_or("<invalid>", DType::name);
        return Err(Error::WrongContents { model, input, expected, found: name.name() });
    };
    if given.next().is_some() {
        return Err(Error::TwoContents { model, input });
    }
    let size = dtype.size();
    let bytes: BytesMut = match name {
        DType::Bool => c.bool_contents.iter().map(|value| u8::from(*value)).collect(),
        DType::Int32 => low(c.int_contents.iter().map(|value| value.to_le_bytes()), size),
        DType::Int64 => low(c.int64_contents.iter().map(|value| value.to_le_bytes()), size),
        DType::Uint32 => low(c.uint_contents.iter().map(|value| value.to_le_bytes()), size),
        DType::Uint64 => low(c.uint64_contents.iter().map(|value| value.to_le_bytes()), size),
        DType::Fp32 => low(c.fp32_contents.iter().map(|value| value.to_le_bytes()), size),
        DType::Fp64 => low(c.fp64_contents.iter().map(|value| value.to_le_bytes()), size),
        _ => strings::tensor_of(&c.bytes_contents),
    };
    Ok(bytes.freeze())
}

/// Bytes of memory that all elements take together.
pub fn size(contents: &InferTensorContents) -> usize {
    let c = contents;
    let narrow = c.int_contents.len() + c.uint_contents.len() + c.fp32_contents.len();
    let wide = c.int64_contents.len() + c.uint64_contents.len() + c.fp64_contents.len();
    let text = c.bytes_contents.iter().map(|text| size_of::<Bytes>() + text.len());
    c.bool_contents.len() + 4 * narrow + 8 * wide + text.sum::<usize>()
}

/// The first `size` bytes of each value.
fn low<const N: usize>(values: impl ExactSizeIterator<Item = [u8; N]>, size: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(values.len() * size);
    values.for_each(|value| bytes.extend_from_slice(&value[..size]));
    bytes
}
