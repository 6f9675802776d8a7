//! Golden samples: inputs with the outputs that a model must give, as ONNX test data.
//!
//! A folder holds `input_0.pb`, `input_1.pb`, ... and `output_0.pb`, ...: one `onnx.TensorProto` a
//! file. A tensor is put in its place by its name or, where it has none, by the file's number.

use std::path::Path;

use crate::engine::Engine;
use crate::loading::error::LoadError;
use crate::loading::golden::file::read_side;
use crate::model::device::{Device, GpuOptions};
use crate::model::{ModelSpec, TensorSpec};
use crate::tensor::compare::{allowed, difference, float};
use crate::tensor::{DType, Rows, Tensor, aligned};

pub mod file;

/// The tensors of one sample's folder, in the order of the model's inputs and outputs.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The inputs that the model is given, aligned for an engine.
    pub inputs: Vec<Tensor>,
    /// The outputs that the model must answer.
    pub outputs: Vec<Tensor>,
}

impl Sample {
    /// Reads a sample's folder. Errors name the file, what was expected and what came.
    pub fn read(
        folder: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self, LoadError> {
        Ok(Self {
            inputs: read_side(folder, "input", inputs)?,
            outputs: read_side(folder, "output", outputs)?,
        })
    }

    /// The sample's rows, repeated in a batch of `rows`; none where the model has no batch axis or
    /// the sample no rows.
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

/// The difference that a GPU's floats may have because a GPU computed them: absolute, and relative
/// for numbers over 1.
///
/// A GPU adds up in another order than the CPU that made the samples, and in different orders for
/// different sizes of the batch. A sum of n terms in FP32 is off by about sqrt(n) * 6e-8 of their
/// size, 4e-6 where n is 4096. Some ten layers on top of each other make that 1e-5, and ten times
/// as much is let pass. An error, such as a product that is rounded to TF32, is far larger.
const GPU_SLACK: f64 = 1e-4;
/// The difference that a GPU's floats may have where products may be rounded to TF32: each factor
/// then has 11 bits, and is off by up to 5e-4.
const TF32_SLACK: f64 = 5e-3;

/// The difference that answers of a device may have, where it is more than the model's own
/// tolerance.
pub fn slack(device: Device, gpu: GpuOptions) -> f64 {
    match device {
        Device::Cpu => 0.0,
        Device::Cuda(_) if gpu.tf32 => TF32_SLACK,
        Device::Cuda(_) => GPU_SLACK,
    }
}

/// Runs every sample and compares each output with the expected one; then runs its rows again in
/// batches of every size that the engine has made ready, full and short of one row.
///
/// Floats may be off by the model's tolerance, or by the slack where that is more, as [`allowed`]
/// says. NaN equals NaN, and an infinity equals itself. All other elements
/// are equal or not. The error names the output and the row, the expected value and the one that
/// came, and their difference.
pub fn check(
    engine: &mut dyn Engine,
    spec: &ModelSpec,
    samples: &[Sample],
    slack: f64,
) -> Result<(), LoadError> {
    for (number, sample) in samples.iter().enumerate() {
        check_one(engine, spec, sample, slack).map_err(|reason| LoadError::Sample {
            number,
            rows: None,
            reason,
        })?;
        for rows in engine.sizes().into_iter().flat_map(|size| [size, size - 1]) {
            let Some(batch) = sample.of_rows(rows, spec) else { continue };
            check_one(engine, spec, &batch, slack).map_err(|reason| LoadError::Sample {
                number,
                rows: Some(rows),
                reason,
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
    let tolerance = f64::from(spec.tolerance).max(slack);
    for (output, (expected, came)) in spec.outputs.iter().zip(expected.iter().zip(&came)) {
        compare(expected, came, tolerance)
            .map_err(|reason| format!("output '{}'{reason}", output.name))?;
    }
    Ok(())
}

fn compare(expected: &Tensor, came: &Tensor, tolerance: f64) -> Result<(), String> {
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
        let tolerance = allowed(dtype, expected, tolerance);
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
        // The shortest text that tells the value from its neighbours in its own type.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Source;
    use crate::engine::fake::Fake;

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
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_answer_within_the_tolerance_is_golden() {
        let odd = [f32::NAN, f32::INFINITY, -0.0, 1.0];
        assert_eq!(checked(&odd, &[f32::NAN, f32::INFINITY, 0.0, 1.25]), Ok(()));
    }

    #[test]
    fn a_difference_is_relative_to_numbers_over_1() {
        assert_eq!(checked_with(&[0.0, 1250.0], &[0.5, 1000.0], 0.5), Ok(()));
        checked_with(&[0.0, 1501.0], &[0.0, 1000.0], 0.5).expect_err("off");
        assert_eq!(checked_with(&[0.0, 1250.0], &[0.25, 1000.0], 0.0), Ok(()));
        checked_with(&[0.0, 1250.3], &[0.0, 1000.0], 0.0).expect_err("off");
        checked_with(&[0.0, 1.0], &[0.0, f32::INFINITY], 0.5).expect_err("an infinity");
    }

    #[test]
    fn numbers_of_16_bits_may_be_off_by_two_roundings() {
        let half = |value: f32| half::f16::from_f32(value).to_le_bytes();
        let tensor =
            |value| Tensor { dtype: DType::Fp16, shape: vec![1], data: aligned(&half(value)) };
        assert_eq!(compare(&tensor(500.0), &tensor(500.5), 1e-5), Ok(()));
        compare(&tensor(500.0), &tensor(502.0), 1e-5).expect_err("off");
    }

    #[test]
    fn an_answer_that_is_off_is_told_with_its_place() {
        let error = checked(&[0.0, 0.0, 0.0, 1.0], &[0.0, 0.0, 0.0, 1.5]).expect_err("off");
        assert_eq!(
            error,
            "golden sample 0: output 'y', row 1: expected 1.5, got 1: \
             a difference of 5.0e-1, of at most 3.8e-1"
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
