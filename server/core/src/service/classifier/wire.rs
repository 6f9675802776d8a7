//! Models, their states and the types of tensor elements, as `sigmax.v1` writes them.

use std::collections::BTreeMap;

use crate::model::catalog::State;
use crate::model::{self, TensorSpec};
use crate::proto::sigmax::{self, Model, ModelState, ModelVersion, Task, TensorDescription};
use crate::tensor::DType;

/// The DataType by which a dtype is named on the wire.
pub fn wire_dtype(dtype: DType) -> sigmax::DataType {
    match dtype {
        DType::Bool => sigmax::DataType::Bool,
        DType::Uint8 => sigmax::DataType::Uint8,
        DType::Uint16 => sigmax::DataType::Uint16,
        DType::Uint32 => sigmax::DataType::Uint32,
        DType::Uint64 => sigmax::DataType::Uint64,
        DType::Int8 => sigmax::DataType::Int8,
        DType::Int16 => sigmax::DataType::Int16,
        DType::Int32 => sigmax::DataType::Int32,
        DType::Int64 => sigmax::DataType::Int64,
        DType::Fp16 => sigmax::DataType::Fp16,
        DType::Bf16 => sigmax::DataType::Bf16,
        DType::Fp32 => sigmax::DataType::Fp32,
        DType::Fp64 => sigmax::DataType::Fp64,
        DType::Bytes => sigmax::DataType::Bytes,
    }
}

/// The dtype of a DataType's number; none where that is 0, which is unspecified; an error with the
/// number where it is unknown.
pub fn dtype_of_wire(number: i32) -> Option<Result<DType, String>> {
    if number == 0 {
        return None;
    }
    let dtype = DType::ALL.into_iter().find(|dtype| wire_dtype(*dtype) as i32 == number);
    Some(dtype.ok_or_else(|| format!("the unknown DataType {number}")))
}

/// The versions of a model, the newest first.
pub fn wire_versions(versions: &BTreeMap<u64, State>) -> Vec<ModelVersion> {
    let wire = |(version, state): (&u64, &State)| {
        let wire = match state {
            State::Loading => ModelState::Loading,
            State::Ready(_) => ModelState::Ready,
            State::Unavailable(_) | State::Lost(..) | State::Unloaded => ModelState::Unavailable,
        };
        let (version, reason) = (version.to_string(), state.reason().to_owned());
        ModelVersion { version, state: wire as i32, reason }
    };
    versions.iter().rev().map(wire).collect()
}

/// The Task by which a task is named on the wire.
pub fn wire_task(task: Option<model::Task>) -> Task {
    match task {
        None => Task::Unspecified,
        Some(model::Task::Binary) => Task::Binary,
        Some(model::Task::Multiclass) => Task::Multiclass,
        Some(model::Task::Multilabel) => Task::Multilabel,
    }
}

/// All that GetModel says of a model.
pub fn wire_model(model: &model::Model, versions: Vec<ModelVersion>) -> Model {
    let model::Model { spec, report } = model;
    let describe = |spec: &TensorSpec| TensorDescription {
        name: spec.name.clone(),
        dtype: wire_dtype(spec.dtype) as i32,
        shape: spec.dims.clone(),
        meaning: spec.meaning.clone(),
        encoding: String::new(),
    };
    Model {
        name: spec.name.clone(),
        version: spec.version.to_string(),
        versions,
        inputs: spec.inputs.iter().map(describe).collect(),
        outputs: spec.outputs.iter().map(describe).collect(),
        task: wire_task(spec.task) as i32,
        labels: spec.labels.clone(),
        thresholds: spec.thresholds.clone(),
        device: report.device.clone(),
        max_batch_size: spec.max_batch_size as u32,
        preferred_batch_size: report.preferred_batch_size as u32,
        rows_independent: report.rows_independent,
        device_reason: report.device_reason.clone(),
        heads: Vec::new(),
        warnings: Vec::new(),
    }
}
