//! Answers that break what a model's heads promise.

use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::model::head::{Broken, Head, check_rows};
use crate::tensor::Tensor;

/// Refuses an answer in which the output of a head, at one of these places, has another number of
/// rows than the request.
pub fn keeps_rows(
    spec: &ModelSpec,
    outputs: &[Tensor],
    places: impl Iterator<Item = usize> + Clone,
    rows: usize,
) -> Result<()> {
    let served = spec.row_limit() > 0;
    let heads =
        spec.heads.iter().filter(|head| served && places.clone().any(|it| it == head.output));
    for head in heads {
        check_rows(&outputs[head.output].shape, rows)
            .map_err(|broken| refused(spec, head, broken))?;
    }
    Ok(())
}

/// The error of a request whose answer breaks the head's promise. What cannot come from the request's
/// values is logged, for the model is to blame.
pub fn refused(spec: &ModelSpec, head: &Head, broken: Broken) -> Error {
    let (model, input) = (spec.name.clone(), spec.inputs[0].name.clone());
    let output = &spec.outputs[head.output].name;
    match broken {
        Broken::NotFinite { row } => Error::NotFinite { model, row, input },
        Broken::OutOfRange { .. } | Broken::Sum { .. } => {
            Error::NoProbability { model, input, detail: format!("output '{output}', {broken}") }
        }
        Broken::Rows { .. } | Broken::Classes { .. } => {
            tracing::error!(%model, %output, %broken, "the output does not fit the model's task");
            match broken {
                Broken::Rows { expected, .. } => Error::RowsLost { model, expected },
                _ => Error::Fault { model },
            }
        }
    }
}
