//! The decision of a row: the classes to show and the classes decided, from its probabilities.

use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::model::head::{Broken, Head, Task};
use crate::proto::sigmax::ClassifyRequest;
use crate::tensor::{DType, read_floats};

/// The options of a request: how its rows are decided and shown.
#[derive(Debug)]
pub struct Options {
    /// The place of the head that decides, among the model's heads.
    pub head: usize,
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
    if spec.heads.is_empty() {
        return Err(not_applicable(
            "declares no task, so its output is no classification; use ModelInfer",
        ));
    }
    let head = head(spec, &request.head)?;
    if spec.row_limit() == 0 {
        return Err(not_applicable("has no batch axis, so it has no rows; use ModelInfer"));
    }
    if let Some(threshold) = request.threshold {
        if spec.heads[head].task == Task::Multiclass {
            let detail = "expected none for a multi-class model, whose most probable class decides";
            return Err(Error::BadField { field: "threshold", detail: detail.into() });
        }
        if !(0.0..=1.0).contains(&threshold) {
            let detail = format!("expected a number from 0 to 1, got {threshold}");
            return Err(Error::BadField { field: "threshold", detail });
        }
    }
    Ok(Options {
        head,
        top: match request.top_k {
            0 => usize::MAX,
            top => top as usize,
        },
        threshold: request.threshold,
        return_probabilities: request.return_probabilities,
    })
}

/// The place of the head with this name; the first where the name is empty.
fn head(spec: &ModelSpec, name: &str) -> Result<usize> {
    if name.is_empty() {
        return Ok(0);
    }
    let found = spec.heads.iter().position(|head| head.name == name);
    found.ok_or_else(|| Error::UnknownHead {
        model: spec.name.clone(),
        head: name.to_owned(),
        known: spec.heads.iter().map(|head| head.name.clone()).collect(),
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
    /// Decides a row. An error says how the row's values break the head's promise.
    pub fn decide(
        &mut self,
        head: &Head,
        options: &Options,
        dtype: DType,
        row: usize,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        let probabilities = &mut self.probabilities;
        probabilities.clear();
        read_floats(dtype, bytes, probabilities);
        head.check_row(row, dtype, probabilities)?;
        if head.task == Task::Binary {
            probabilities.insert(0, 1.0 - probabilities[0]);
        }
        self.top.clear();
        self.top.extend(0..probabilities.len());
        // Adding 0 turns a minus zero, which is no smaller than zero, into zero.
        let of = |index: usize| probabilities[index] + 0.0;
        let falling = |a: &usize, b: &usize| of(*b).total_cmp(&of(*a)).then(a.cmp(b));
        if options.top < self.top.len() {
            self.top.select_nth_unstable_by(options.top, falling);
            self.top.truncate(options.top);
        }
        self.top.sort_unstable_by(falling);
        self.decided.clear();
        let threshold = |index: usize| {
            options.threshold.or_else(|| head.thresholds.get(index).copied()).unwrap_or(0.5)
        };
        match head.task {
            Task::Multiclass => self.decided.push(self.top[0]),
            Task::Binary => self.decided.push(usize::from(probabilities[1] > threshold(0))),
            Task::Multilabel => {
                let over = |&index: &usize| probabilities[index] > threshold(index);
                self.decided.extend((0..probabilities.len()).filter(over));
            }
        }
        Ok(())
    }
}
