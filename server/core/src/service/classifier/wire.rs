//! Models, their states and the types of tensor elements, as `sigmax.v1` writes them.

use std::collections::BTreeMap;

use crate::model::catalog::State;
use crate::model::{self, TensorSpec, head};
use crate::proto::sigmax::{self, Head, Model, ModelState, ModelVersion, Task, TensorDescription};
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
        let (version, reason) = (version.to_string(), state.reason().into_owned());
        ModelVersion { version, state: wire as i32, reason }
    };
    versions.iter().rev().map(wire).collect()
}

/// The Task by which a task is named on the wire.
fn wire_task(task: head::Task) -> Task {
    match task {
        head::Task::Binary => Task::Binary,
        head::Task::Multiclass => Task::Multiclass,
        head::Task::Multilabel => Task::Multilabel,
    }
}

/// The Task of a model's first head; unspecified where there is none.
pub fn task_of(model: &model::Model) -> Task {
    model.spec.heads.first().map_or(Task::Unspecified, |head| wire_task(head.task))
}

fn wire_head(head: &head::Head, spec: &model::ModelSpec) -> Head {
    Head {
        name: head.name.clone(),
        output: spec.outputs[head.output].name.clone(),
        task: wire_task(head.task) as i32,
        labels: head.labels.clone(),
        thresholds: head.thresholds.clone(),
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
        encoding: spec.encoding.clone(),
        any_rank: spec.any_rank,
    };
    let heads: Vec<_> = spec.heads.iter().map(|head| wire_head(head, spec)).collect();
    let first = heads.first().cloned().unwrap_or_default();
    Model {
        name: spec.name.clone(),
        version: spec.version.to_string(),
        versions,
        inputs: spec.inputs.iter().map(describe).collect(),
        outputs: spec.outputs.iter().map(describe).collect(),
        task: first.task,
        labels: first.labels,
        thresholds: first.thresholds,
        device: report.device.clone(),
        max_batch_size: spec.max_batch_size as u32,
        preferred_batch_size: report.preferred_batch_size as u32,
        rows_independent: report.rows_independent,
        device_reason: report.device_reason.clone(),
        heads,
        warnings: report.warnings.clone(),
    }
}
