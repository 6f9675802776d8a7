//! The check of what a model's heads promise, before the model serves.

use crate::loading::error::LoadError;
use crate::loading::golden::Sample;
use crate::model::ModelSpec;
use crate::model::head::{Broken, Head};
use crate::tensor::Tensor;

/// Checks the outputs of golden samples against what the heads promise.
pub fn check_samples(spec: &ModelSpec, golden: &[Sample]) -> Result<(), LoadError> {
    for (number, sample) in golden.iter().enumerate() {
        let rows = sample.inputs.first().and_then(|input| input.shape.first()).copied();
        for head in heads(spec) {
            let output = &sample.outputs[head.output];
            head.check(output, rows.unwrap_or(1)).map_err(|broken| {
                broken_promise(spec, head, format!("golden sample {number}"), broken, false)
            })?;
        }
    }
    Ok(())
}

/// Checks the answers of rows alone, and of all of them in one batch.
///
/// Without golden samples, an answer that breaks a head's promise is an error. With them it is a
/// warning, for generated rows may be such as never come. A probability that is not finite is
/// neither, for it may come from a generated row's own values.
pub fn check_rows(
    spec: &ModelSpec,
    golden: &[Sample],
    alone: &[Vec<Tensor>],
    batch: &Option<(usize, Vec<Tensor>)>,
) -> Result<Vec<String>, LoadError> {
    let mut warnings = Vec::new();
    let answers = alone.iter().map(|outputs| (1, outputs));
    let batch = batch.as_ref().map(|(rows, outputs)| (*rows, outputs));
    for head in heads(spec) {
        let broken = answers.clone().chain(batch).find_map(|(rows, outputs)| {
            match head.check(&outputs[head.output], rows) {
                Ok(()) | Err(Broken::NotFinite { .. }) => None,
                Err(broken) => Some((rows, broken)),
            }
        });
        let Some((rows, broken)) = broken else { continue };
        let asked = match rows {
            1 => "a generated row".to_owned(),
            rows => format!("{rows} generated rows"),
        };
        let error = broken_promise(spec, head, asked, broken, golden.is_empty());
        match golden.is_empty() {
            true => return Err(error),
            false => warnings
                .push(format!("{error}; it serves, because its golden samples keep the promise")),
        }
    }
    Ok(warnings)
}

/// The heads that a request can ask for.
fn heads(spec: &ModelSpec) -> &[Head] {
    if spec.row_limit() > 0 { &spec.heads } else { &[] }
}

fn broken_promise(
    spec: &ModelSpec,
    head: &Head,
    asked: String,
    broken: Broken,
    is_unproven: bool,
) -> LoadError {
    let output = spec.outputs[head.output].name.clone();
    LoadError::Promise {
        head: head.name.clone(),
        task: head.task,
        output,
        asked,
        broken,
        is_unproven,
    }
}
