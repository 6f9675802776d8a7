//! The decision of a row: the classes to show and the classes decided, from its probabilities.

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::model::{ModelSpec, Task};
use crate::proto::sigmax::ClassifyRequest;
use crate::tensor::DType;

/// The options of a request: how its rows are decided and shown.
#[derive(Debug)]
pub struct Options {
    /// The model's task: what its output means.
    pub task: Task,
    /// The most classes that are shown of a row; at least 1.
    pub top: usize,
    /// The probability over which a class is decided; none: the model's own thresholds.
    pub threshold: Option<f32>,
    /// Whether the answer holds the output tensor as well.
    pub return_probabilities: bool,
}

/// The options of a request; an error where the model does not classify, or where an option does
/// not fit it.
pub fn options(spec: &ModelSpec, request: &ClassifyRequest) -> Result<Options> {
    let not_applicable =
        |detail: &str| Error::NotApplicable { model: spec.name.clone(), detail: detail.into() };
    let task = spec.task.ok_or_else(|| {
        not_applicable("declares no task, so its output is no classification; use ModelInfer")
    })?;
    if spec.max_batch_size == 0 {
        return Err(not_applicable("has no batch axis, so it has no rows; use ModelInfer"));
    }
    if let Some(threshold) = request.threshold {
        if task == Task::Multiclass {
            let detail = "expected none for a multi-class model, whose most probable class decides";
            return Err(Error::BadField { field: "threshold", detail: detail.into() });
        }
        if !(0.0..=1.0).contains(&threshold) {
            let detail = format!("expected a number from 0 to 1, got {threshold}");
            return Err(Error::BadField { field: "threshold", detail });
        }
    }
    Ok(Options {
        task,
        top: match request.top_k {
            0 => usize::MAX,
            top => top as usize,
        },
        threshold: request.threshold,
        return_probabilities: request.return_probabilities,
    })
}

/// The decision of one row. Its memory serves one row after the other.
#[derive(Debug, Default)]
pub struct Decision {
    /// The probability of each class.
    pub probabilities: Vec<f32>,
    /// The indices of the classes to show, by falling probability.
    pub top: Vec<usize>,
    /// The indices of the classes decided, rising.
    pub decided: Vec<usize>,
}

impl Decision {
    /// Decides a row.
    pub fn decide(&mut self, spec: &ModelSpec, options: &Options, dtype: DType, row: &[u8]) {
        let probabilities = &mut self.probabilities;
        probabilities.clear();
        read(dtype, row, probabilities);
        if options.task == Task::Binary {
            probabilities.insert(0, 1.0 - probabilities[0]);
        }
        self.top.clear();
        self.top.extend(0..probabilities.len());
        let falling =
            |a: &usize, b: &usize| probabilities[*b].total_cmp(&probabilities[*a]).then(a.cmp(b));
        if options.top < self.top.len() {
            self.top.select_nth_unstable_by(options.top, falling);
            self.top.truncate(options.top);
        }
        self.top.sort_unstable_by(falling);
        self.decided.clear();
        let threshold = |index: usize| {
            options.threshold.or_else(|| spec.thresholds.get(index).copied()).unwrap_or(0.5)
        };
        match options.task {
            Task::Multiclass => self.decided.push(self.top[0]),
            Task::Binary => self.decided.push(usize::from(probabilities[1] > threshold(0))),
            Task::Multilabel => {
                let over = |&index: &usize| probabilities[index] > threshold(index);
                self.decided.extend((0..probabilities.len()).filter(over));
            }
        }
    }
}

/// Appends a row's floats of any width to `into` as FP32. Other types do not come here: a model's
/// description is refused where it has a task and an output of another type.
fn read(dtype: DType, row: &[u8], into: &mut Vec<f32>) {
    let pairs = row.chunks_exact(2).map(|bytes| [bytes[0], bytes[1]]);
    match dtype {
        DType::Fp16 => into.extend(pairs.map(|bytes| f16::from_le_bytes(bytes).to_f32())),
        DType::Bf16 => into.extend(pairs.map(|bytes| bf16::from_le_bytes(bytes).to_f32())),
        DType::Fp64 => {
            let (doubles, _) = row.as_chunks::<8>();
            into.extend(doubles.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32));
        }
        _ => {
            let (floats, _) = row.as_chunks::<4>();
            into.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
    }
}
