//! The outputs that a ModelInferRequest asks for, and how each is returned.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::proto::inference::InferParameter;
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::model_infer_request::InferRequestedOutputTensor;
use crate::service::inference::parameters::{bad, wrong_type};
use crate::service::inference::shared_memory;
use crate::service::validate::names;
use crate::shared_memory::{Regions, Slice};

/// An output to return.
#[derive(Debug)]
pub struct Wanted {
    /// The output's index among the model's outputs.
    pub index: usize,
    /// The way in which the output is returned.
    pub delivery: Delivery,
}

/// The way in which an output is returned.
#[derive(Debug)]
pub enum Delivery {
    /// The tensor as it is.
    Raw,
    /// The highest values of each row, with their classes: at most so many.
    Classes(usize),
    /// The tensor, written into shared memory.
    Shared(Box<Slice>),
}

/// The outputs to return, and how: those that the request names, in its order; all where it names
/// none.
pub fn wanted(
    spec: &ModelSpec,
    regions: &Regions,
    asked: Vec<InferRequestedOutputTensor>,
) -> Result<Vec<Wanted>> {
    if asked.is_empty() {
        let all = 0..spec.outputs.len();
        return Ok(all.map(|index| Wanted { index, delivery: Delivery::Raw }).collect());
    }
    let deliveries = asked.iter().map(|output| delivery(regions, &output.parameters));
    let deliveries = deliveries.collect::<Result<Vec<_>>>()?;
    let find = |(output, delivery): (InferRequestedOutputTensor, Delivery)| match spec
        .outputs
        .iter()
        .position(|spec| spec.name == output.name)
    {
        Some(index) => Ok(Wanted { index, delivery }),
        None => Err(Error::UnexpectedOutput {
            model: spec.name.clone(),
            output: output.name,
            expected: names(&spec.outputs),
        }),
    };
    asked.into_iter().zip(deliveries).map(find).collect()
}

fn delivery(regions: &Regions, parameters: &BTreeMap<String, InferParameter>) -> Result<Delivery> {
    let slice = shared_memory::slice(regions, parameters)?;
    let count = match (slice, parameters.get("classification")) {
        (None, None) => return Ok(Delivery::Raw),
        (Some(slice), None) => return Ok(Delivery::Shared(slice.into())),
        (Some(_), Some(_)) => {
            let detail = "output can't set both 'shared_memory_region' and 'classification'";
            return Err(bad(detail.into()));
        }
        (None, Some(count)) => count,
    };
    match count.parameter_choice {
        Some(ParameterChoice::Int64Param(count @ 1..)) => {
            Ok(Delivery::Classes(usize::try_from(count).unwrap_or(usize::MAX)))
        }
        Some(ParameterChoice::Int64Param(count)) => Err(bad(format!(
            "invalid value for 'classification' parameter, expected >= 1, got {count}"
        ))),
        ref other => Err(wrong_type("classification", "int64_param", other.as_ref())),
    }
}
