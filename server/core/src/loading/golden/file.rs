//! The files of golden samples, each of which is an `onnx.TensorProto`.

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use crate::file;
use crate::loading::error::LoadError;
use crate::model::TensorSpec;
use crate::tensor::{self, DType, Tensor, aligned, strings};

/// The most bytes of one sample's file.
const MOST_BYTES: u64 = 1 << 30;

/// The fields of `onnx.TensorProto` that such files use.
#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    string_data: Vec<Bytes>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    uint64_data: Vec<u64>,
}

/// The tensors of all input files, or of all output files, each in the place of its tensor.
pub fn read_side(
    folder: &Path,
    side: &str,
    specs: &[TensorSpec],
) -> Result<Vec<Tensor>, LoadError> {
    let mut places = vec![None; specs.len()];
    for number in 0..specs.len() {
        let path = folder.join(format!("{side}_{number}.pb"));
        file::read(&path, MOST_BYTES)
            .and_then(|bytes| place(&bytes, number, specs, &mut places))
            .map_err(|reason| LoadError::SampleFile { path, reason })?;
    }
    // No place is empty: there are as many files, and none fills a place twice.
    Ok(places.into_iter().flatten().collect())
}

fn place(
    bytes: &[u8],
    number: usize,
    specs: &[TensorSpec],
    places: &mut [Option<Tensor>],
) -> Result<(), String> {
    let proto = TensorProto::decode(bytes)
        .map_err(|error| format!("expected an onnx.TensorProto: {error}"))?;
    let index = match proto.name.as_str() {
        "" => number,
        name => specs.iter().position(|spec| spec.name == name).ok_or_else(|| {
            let names: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
            format!("expected a tensor named one of {names:?}, got '{name}'")
        })?,
    };
    if places[index].is_some() {
        return Err(format!("'{}' has come before", specs[index].name));
    }
    places[index] = Some(tensor(&proto, &specs[index])?);
    Ok(())
}

fn tensor(proto: &TensorProto, spec: &TensorSpec) -> Result<Tensor, String> {
    let found = DType::from_onnx(proto.data_type);
    if found != Some(spec.dtype) {
        let found = found.map_or(format!("ONNX type {}", proto.data_type), |d| d.name().into());
        return Err(format!("'{}': expected {}, got {found}", spec.name, spec.dtype.name()));
    }
    let agree = |(&dim, &of): (&i64, &i64)| of < 0 || of == dim;
    let fits = spec.any_rank
        || (proto.dims.len() == spec.dims.len() && proto.dims.iter().zip(&spec.dims).all(agree));
    if !fits || proto.dims.iter().any(|&dim| dim < 0) {
        return Err(format!(
            "'{}': expected shape {:?}, got {:?}",
            spec.name, spec.dims, proto.dims
        ));
    }
    let shape: Vec<_> = proto.dims.iter().map(|&dim| dim as usize).collect();
    let data = elements(proto, spec.dtype);
    let fits = match spec.dtype {
        DType::Bytes => {
            let count = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
            count == Some(proto.string_data.len())
        }
        dtype => tensor::byte_size(dtype, &shape) == Some(data.len()),
    };
    if !fits {
        return Err(format!("'{}': shape {shape:?} and {} bytes", spec.name, data.len()));
    }
    if spec.dtype == DType::Bool && data.iter().any(|&byte| byte > 1) {
        return Err(format!("'{}': expected bytes of 0 and 1", spec.name));
    }
    Ok(Tensor { dtype: spec.dtype, shape, data: aligned(&data) })
}

/// The elements in little-endian order, from the field that holds elements of this type.
fn elements(proto: &TensorProto, dtype: DType) -> Vec<u8> {
    if !proto.raw_data.is_empty() && dtype != DType::Bytes {
        return proto.raw_data.to_vec();
    }
    match dtype {
        DType::Bytes => strings::tensor_of(&proto.string_data).to_vec(),
        DType::Fp32 => bytemuck::cast_slice(&proto.float_data).to_vec(),
        DType::Fp64 => bytemuck::cast_slice(&proto.double_data).to_vec(),
        DType::Int64 => bytemuck::cast_slice(&proto.int64_data).to_vec(),
        DType::Uint64 => bytemuck::cast_slice(&proto.uint64_data).to_vec(),
        DType::Uint32 => narrowed(&proto.uint64_data, dtype),
        _ => narrowed(&proto.int32_data, dtype),
    }
}

/// The low bytes of each value, as many as an element of `dtype` has.
fn narrowed<T: bytemuck::NoUninit>(values: &[T], dtype: DType) -> Vec<u8> {
    values.iter().flat_map(|value| &bytemuck::bytes_of(value)[..dtype.size()]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, dims: &[i64]) -> TensorSpec {
        TensorSpec::new(name, dtype, dims)
    }

    fn read(
        proto: &TensorProto,
        specs: &[TensorSpec],
        number: usize,
    ) -> Result<Vec<Option<Tensor>>, String> {
        let mut places = vec![None; specs.len()];
        place(&proto.encode_to_vec(), number, specs, &mut places)?;
        Ok(places)
    }

    fn only(proto: &TensorProto, dtype: DType) -> Vec<u8> {
        let places = read(proto, &[spec("x", dtype, &[-1])], 0).expect("a tensor");
        places[0].as_ref().expect("a place").data.to_vec()
    }

    #[test]
    fn raw_and_typed_elements_are_the_same() {
        let proto = |data_type| TensorProto { dims: vec![2], data_type, ..Default::default() };
        let floats = TensorProto { float_data: vec![1.5, -2.0], ..proto(1) };
        let raw = [1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat();
        assert_eq!(only(&floats, DType::Fp32), raw);
        assert_eq!(
            only(&TensorProto { raw_data: raw.clone().into(), ..proto(1) }, DType::Fp32),
            raw
        );
        let small = TensorProto { int32_data: vec![-1, 2], ..proto(3) };
        assert_eq!(only(&small, DType::Int8), [255, 2]);
        let halves = TensorProto { int32_data: vec![0x3c00, 0xbc00], ..proto(10) };
        assert_eq!(only(&halves, DType::Fp16), [0x00, 0x3c, 0x00, 0xbc]);
        let wide = TensorProto { uint64_data: vec![u32::MAX.into(), 7], ..proto(12) };
        assert_eq!(only(&wide, DType::Uint32), [255, 255, 255, 255, 7, 0, 0, 0]);
    }

    #[test]
    fn names_place_tensors_and_numbers_do_where_there_is_none() {
        let specs = [spec("a", DType::Uint8, &[1]), spec("b", DType::Uint8, &[1])];
        let mut proto =
            TensorProto { dims: vec![1], data_type: 2, int32_data: vec![9], ..Default::default() };
        assert!(read(&proto, &specs, 1).expect("by number")[1].is_some());
        proto.name = "b".into();
        assert!(read(&proto, &specs, 0).expect("by name")[1].is_some());
        proto.name = "c".into();
        let error = read(&proto, &specs, 0).expect_err("no such tensor");
        assert_eq!(error, r#"expected a tensor named one of ["a", "b"], got 'c'"#);
    }

    #[test]
    fn what_does_not_fit_the_model_is_named() {
        let specs = [spec("x", DType::Fp32, &[-1, 2])];
        let good = TensorProto {
            dims: vec![1, 2],
            data_type: 1,
            float_data: vec![0.0; 2],
            ..Default::default()
        };
        let error = |proto: TensorProto| read(&proto, &specs, 0).expect_err("a misfit");
        assert_eq!(
            error(TensorProto { data_type: 7, ..good.clone() }),
            "'x': expected FP32, got INT64"
        );
        assert_eq!(
            error(TensorProto { data_type: 14, ..good.clone() }),
            "'x': expected FP32, got ONNX type 14"
        );
        let shape = error(TensorProto { dims: vec![2, 1], ..good.clone() });
        assert_eq!(shape, "'x': expected shape [-1, 2], got [2, 1]");
        let bytes = error(TensorProto { dims: vec![3, 2], ..good });
        assert_eq!(bytes, "'x': shape [3, 2] and 8 bytes");
    }
}
