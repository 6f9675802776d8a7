//! The inputs of a ModelInferRequest: where their elements are, in whichever form they come.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::grpc::budget::Held;
use crate::model::ModelSpec;
use crate::proto::inference::ModelInferRequest;
use crate::proto::inference::model_infer_request::InferInputTensor;
use crate::scheduler::request::Data;
use crate::service::inference::{contents, shared_memory};
use crate::service::validate::Given;
use crate::shared_memory::Regions;
use crate::tensor::DType;

/// The work of reading a request's inputs, in bytes of memory that are read one by one. Raw and
/// shared inputs count an eighth of their bytes, because much less of them is read.
pub fn work(request: &ModelInferRequest) -> usize {
    let raw = request.raw_input_contents.iter().map(Bytes::len);
    let typed = request.inputs.iter().filter_map(|input| input.contents.as_ref());
    let shared = request.inputs.iter().filter(|input| !input.parameters.is_empty());
    let shared = shared.map(|input| shared_memory::size(&input.parameters));
    let read = raw.chain(shared).map(|size| size / 8).chain(typed.map(contents::size));
    read.fold(0, usize::saturating_add)
}

/// The inputs of a request, each with its elements.
pub fn given(
    spec: &ModelSpec,
    regions: &Regions,
    inputs: Vec<InferInputTensor>,
    raw: Vec<Bytes>,
) -> Result<Vec<Given>> {
    let no_raw = raw.is_empty();
    let mut raw = raw.into_iter();
    let pair = |input: InferInputTensor| {
        let InferInputTensor { name, datatype, shape, parameters, contents } = input;
        let dtype = DType::from_name(&datatype);
        if let Some(slice) = shared_memory::slice(regions, &parameters)? {
            if contents.is_some_and(|contents| contents != Default::default()) {
                return Err(Error::TwoForms { model: spec.name.clone(), input: name });
            }
            let data = Data::Shared(slice.into());
            return Ok(Given { dtype: Some(dtype.ok_or(datatype)), name, shape, data });
        }
        let data = match contents {
            Some(contents) if no_raw => contents::bytes(spec, &name, dtype, &contents)?,
            // Empty typed contents beside raw ones are taken, because some converters send them.
            Some(contents) if contents != Default::default() => {
                return Err(Error::TwoForms { model: spec.name.clone(), input: name });
            }
            _ => raw
                .next()
                .ok_or_else(|| Error::NoData { model: spec.name.clone(), input: name.clone() })?,
        };
        let data = Data::Here(data);
        Ok(Given { dtype: Some(dtype.ok_or(datatype)), name, shape, data })
    };
    inputs.into_iter().map(pair).collect()
}

/// Takes room in the budget for the bytes that will be copied from shared memory. They are limited
/// as if they came in the message, whose limit is `limit` bytes.
pub fn hold_shared(given: &[Given], limit: usize, held: &mut Held) -> Result<()> {
    let shared = given.iter().filter_map(|given| match &given.data {
        Data::Here(_) => None,
        Data::Shared(slice) => Some(slice.len()),
    });
    match shared.fold(0, usize::saturating_add) {
        0 => Ok(()),
        found if found > limit => Err(Error::SharedTooLarge { found, limit }),
        found => held.unfold(found),
    }
}
