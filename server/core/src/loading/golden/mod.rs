//! Golden samples: inputs with the outputs that a model must give, as ONNX test data.
//!
//! A folder holds `input_0.pb`, `input_1.pb`, ... and `output_0.pb`, ...: one `onnx.TensorProto` a
//! file, which is put in its place by its name or, where it has none, by its number.

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use crate::engine::Engine;
use crate::file;
use crate::model::device::{Device, GpuOptions};
use crate::model::{ModelSpec, TensorSpec};
use crate::tensor::compare::{difference, float};
use crate::tensor::strings;
use crate::tensor::{self, DType, Rows, Tensor, aligned};

/// The most bytes of one file.
const MOST_BYTES: u64 = 1 << 30;

/// One folder, in the order of the model's inputs and outputs.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What the model is given; aligned for an engine.
    pub inputs: Vec<Tensor>,
    /// What it must answer.
    pub outputs: Vec<Tensor>,
}

impl Sample {
    /// Reads a folder. Errors name the file, what was expected and what came.
    pub fn read(
        folder: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self, String> {
        Ok(Self {
            inputs: read_side(folder, "input", inputs)?,
            outputs: read_side(folder, "output", outputs)?,
        })
    }

    /// Its rows, over and over, in a batch of so many; nothing where it has no rows.
    fn of_rows(&self, rows: usize, spec: &ModelSpec) -> Option<Self> {
        let count = *self.inputs.first()?.shape.first()?;
        let tensors = || self.inputs.iter().chain(&self.outputs);
        let has_rows = tensors().all(|tensor| tensor.shape.first() == Some(&count));
        if spec.max_batch_size == 0 || rows == 0 || count == 0 || !has_rows {
            return None;
        }
        let repeated = |tensor: &Tensor| {
            let mut data = tensor.data.repeat(rows / count);
            data.extend_from_slice(&Rows::of(tensor).next(rows % count).data);
            let shape = [&[rows], &tensor.shape[1..]].concat();
            Tensor { dtype: tensor.dtype, shape, data: aligned(&data) }
        };
        Some(Self {
            inputs: self.inputs.iter().map(repeated).collect(),
            outputs: self.outputs.iter().map(repeated).collect(),
        })
    }
}

/// How far a GPU's floats may be off for being a GPU's, absolute, or of numbers over 1 relative.
///
/// A GPU adds up in another order than the CPU that made the samples, and in another one for another
/// size of the batch. A sum of n terms in FP32 is off by about sqrt(n) * 6e-8 of their size, 4e-6
/// where n is 4096; some ten layers on top of each other make that 1e-5, and ten times as much is
/// let pass. An error, such as a product that is rounded to TF32, is far larger.
const GPU_SLACK: f64 = 1e-4;
/// The same where products may be rounded to TF32: each factor has 11 bits, and is off by up to 5e-4.
const TF32_SLACK: f64 = 5e-3;

/// How far answers of a device may be off beyond a model's own tolerance.
pub fn slack(device: Device, gpu: GpuOptions) -> f64 {
    match device {
        Device::Cpu => 0.0,
        Device::Cuda(_) if gpu.tf32 => TF32_SLACK,
        Device::Cuda(_) => GPU_SLACK,
    }
}

/// Runs every sample and compares each output with what it must be; then its rows again in batches of
/// every size that the engine has made ready, full and short of one row.
///
/// Floats may be off by the model's tolerance, or where that is more by the slack, which is relative
/// for numbers over 1. NaN equals NaN and an infinity itself. All other elements are equal or not. The
/// error names output, row, expected, came and difference.
pub fn check(
    engine: &mut dyn Engine,
    spec: &ModelSpec,
    samples: &[Sample],
    slack: f64,
) -> Result<(), String> {
    for (number, sample) in samples.iter().enumerate() {
        check_one(engine, spec, sample, slack)
            .map_err(|reason| format!("golden sample {number}: {reason}"))?;
        for rows in engine.sizes().into_iter().flat_map(|size| [size, size - 1]) {
            let Some(batch) = sample.of_rows(rows, spec) else { continue };
            check_one(engine, spec, &batch, slack).map_err(|reason| {
                format!("golden sample {number} in a batch of {rows} rows: {reason}")
            })?;
        }
    }
    Ok(())
}

fn check_one(
    engine: &mut dyn Engine,
    spec: &ModelSpec,
    sample: &Sample,
    slack: f64,
) -> Result<(), String> {
    let views: Vec<_> = sample.inputs.iter().map(|input| Some(input.view())).collect();
    let came = engine.run(&views).map_err(|error| format!("the run failed: {error}"))?;
    let expected = &sample.outputs;
    if expected.len() != came.len() {
        return Err(format!("expected {} outputs, got {}", expected.len(), came.len()));
    }
    let tolerance = f64::from(spec.tolerance);
    for (output, (expected, came)) in spec.outputs.iter().zip(expected.iter().zip(&came)) {
        compare(expected, came, tolerance, slack)
            .map_err(|reason| format!("output '{}'{reason}", output.name))?;
    }
    Ok(())
}

fn compare(expected: &Tensor, came: &Tensor, tolerance: f64, slack: f64) -> Result<(), String> {
    if (expected.dtype, &expected.shape) != (came.dtype, &came.shape) {
        return Err(format!(
            ": expected {} {:?}, got {} {:?}",
            expected.dtype.name(),
            expected.shape,
            came.dtype.name(),
            came.shape
        ));
    }
    let dtype = expected.dtype;
    let row_elements: usize = expected.shape.iter().skip(1).product();
    for (element, (expected, came)) in expected.elements().zip(came.elements()).enumerate() {
        let difference = difference(dtype, expected, came);
        let size = float(dtype, expected).map_or(1.0, |value| value.abs().max(1.0));
        let tolerance = tolerance.max(slack * size);
        if difference > tolerance {
            return Err(format!(
                ", row {}: expected {}, got {}: a difference of {difference:.1e}, of at most {tolerance:.1e}",
                element / row_elements,
                text(dtype, expected),
                text(dtype, came)
            ));
        }
    }
    Ok(())
}

fn text(dtype: DType, element: &[u8]) -> String {
    match float(dtype, element) {
        Some(value) if dtype == DType::Fp64 => return value.to_string(),
        // As short as the type itself can tell it from others.
        Some(value) => return (value as f32).to_string(),
        None if dtype == DType::Bytes => return format!("'{}'", element.escape_ascii()),
        None => {}
    }
    let mut bytes = [0; 8];
    bytes[..element.len()].copy_from_slice(element);
    let bits = i64::from_le_bytes(bytes);
    let unused = 64 - 8 * element.len() as u32;
    match dtype {
        DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64 => {
            (bits << unused >> unused).to_string()
        }
        _ => (bits as u64).to_string(),
    }
}

/// The part of `onnx.TensorProto` that such files use.
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

/// Every file of one side, each in the place of its tensor.
fn read_side(folder: &Path, side: &str, specs: &[TensorSpec]) -> Result<Vec<Tensor>, String> {
    let mut places = vec![None; specs.len()];
    for number in 0..specs.len() {
        let path = folder.join(format!("{side}_{number}.pb"));
        file::read(&path, MOST_BYTES)
            .and_then(|bytes| place(&bytes, number, specs, &mut places))
            .map_err(|reason| format!("{}: {reason}", path.display()))?;
    }
    // As many files as places, and none fills one twice: none is empty.
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
    let fits = proto.dims.len() == spec.dims.len()
        && proto.dims.iter().zip(&spec.dims).all(|(&dim, &of)| dim >= 0 && (of < 0 || of == dim));
    if !fits {
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

/// The elements in little-endian order, from whichever field holds those of this type.
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

/// The low bytes of each value.
fn narrowed<T: bytemuck::NoUninit>(values: &[T], dtype: DType) -> Vec<u8> {
    values.iter().flat_map(|value| &bytemuck::bytes_of(value)[..dtype.size()]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Source;
    use crate::engine::fake::Fake;

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

    fn floats(values: &[f32]) -> Tensor {
        let data = aligned(bytemuck::cast_slice(values));
        Tensor { dtype: DType::Fp32, shape: vec![values.len() / 2, 2], data }
    }

    fn checked(given: &[f32], expected: &[f32]) -> Result<(), String> {
        checked_with(given, expected, 0.0)
    }

    fn checked_with(given: &[f32], expected: &[f32], slack: f64) -> Result<(), String> {
        let fake = Fake::new(2);
        let spec = ModelSpec {
            name: "fake".into(),
            version: 1,
            inputs: fake.inputs().to_vec(),
            outputs: fake.outputs().to_vec(),
            max_batch_size: 8,
            tolerance: 0.25,
            ..Default::default()
        };
        let sample = Sample { inputs: vec![floats(given)], outputs: vec![floats(expected)] };
        let engine = fake.engine(Device::Cpu, GpuOptions::default(), std::time::Instant::now());
        check(&mut *engine.expect("an engine"), &spec, &[sample], slack)
    }

    #[test]
    fn an_answer_within_the_tolerance_is_golden() {
        let odd = [f32::NAN, f32::INFINITY, -0.0, 1.0];
        assert_eq!(checked(&odd, &[f32::NAN, f32::INFINITY, 0.0, 1.25]), Ok(()));
    }

    #[test]
    fn the_slack_of_a_device_is_relative_to_numbers_over_1() {
        assert_eq!(checked_with(&[0.0, 1250.0], &[0.5, 1000.0], 0.5), Ok(()));
        checked_with(&[0.0, 1501.0], &[0.0, 1000.0], 0.5).expect_err("off");
        checked_with(&[0.0, 1000.3], &[0.0, 1000.0], 0.0).expect_err("off");
    }

    #[test]
    fn an_answer_that_is_off_is_told_with_its_place() {
        let error = checked(&[0.0, 0.0, 0.0, 1.0], &[0.0, 0.0, 0.0, 1.5]).expect_err("off");
        assert_eq!(
            error,
            "golden sample 0: output 'y', row 1: expected 1.5, got 1: \
             a difference of 5.0e-1, of at most 2.5e-1"
        );
        checked(&[f32::NAN, 0.0], &[0.0, 0.0]).expect_err("NaN is no number");
        checked(&[f32::INFINITY, 0.0], &[f32::NEG_INFINITY, 0.0]).expect_err("another infinity");
        let shape = checked(&[0.0, 0.0], &[0.0; 4]).expect_err("another shape");
        assert_eq!(shape, "golden sample 0: output 'y': expected FP32 [2, 2], got FP32 [1, 2]");
    }

    #[test]
    fn integers_are_shown_as_their_type_holds_them() {
        assert_eq!(text(DType::Int8, &[255]), "-1");
        assert_eq!(text(DType::Uint8, &[255]), "255");
        assert_eq!(text(DType::Int64, &i64::MIN.to_le_bytes()), i64::MIN.to_string());
        assert_eq!(text(DType::Uint64, &u64::MAX.to_le_bytes()), u64::MAX.to_string());
    }
}
