//! `sigmax.v1.ClassifierService/Classify`: decode, check, run, decide, encode.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::access::caller::Caller;
use crate::error::{Error, Result};
use crate::grpc::budget::Held;
use crate::grpc::head::Call;
use crate::grpc::message::{READ, beside};
use crate::model::{ModelSpec, TensorSpec};
use crate::proto::sigmax::{self, ClassifyRequest, tensor::Data};
use crate::scheduler::admission::RequestOptions;
use crate::scheduler::request::{self, ValidRequest};
use crate::scheduler::served_model::ServedModel;
use crate::service::classifier::decision::{Options, options};
use crate::service::classifier::reply;
use crate::service::classifier::values::from_values;
use crate::service::classifier::wire::dtype_of_wire;
use crate::service::trace::Trace;
use crate::service::validate::{Given, hold, validate};
use crate::shard::Shard;

/// The path of the call.
pub const PATH: &str = "/sigmax.v1.ClassifierService/Classify";

/// Answers a request with an encoded ClassifyResponse.
pub async fn classify(
    shard: &Shard,
    request: ClassifyRequest,
    call: Call,
    caller: &Caller,
    held: &mut Held,
    trace: &Trace,
) -> Result<BytesMut> {
    caller.may(&request.model_name)?;
    let (served, options, valid) = prepare(shard, request, held, trace).await?;
    let request_options =
        RequestOptions { ready: Some(call.ready), deadline: call.deadline, ..Default::default() };
    let answer = served.run(valid, request_options).await?;
    trace.ran(&answer);
    reply::encode(&served.model.spec, &options, &answer, call)
}

/// Finds the model that a request names, and checks the request against it.
async fn prepare(
    shard: &Shard,
    request: ClassifyRequest,
    held: &mut Held,
    trace: &Trace,
) -> Result<(Rc<ServedModel>, Options, ValidRequest)> {
    let served = shard.models.find(&request.model_name, &request.model_version)?;
    trace.found(&served);
    let spec = &served.model.spec;
    let options = options(spec, &request)?;
    let inputs = request.inputs;
    let valid = if inputs.iter().map(work).sum::<usize>() <= READ {
        validated(spec, inputs)?
    } else {
        let model = served.model.clone();
        Box::pin(beside(move || validated(&model.spec, inputs))).await?
    };
    hold(&valid, held)?;
    Ok((served, options, valid))
}

fn validated(spec: &ModelSpec, inputs: Vec<sigmax::Tensor>) -> Result<ValidRequest> {
    let given = inputs.into_iter().map(|tensor| given(spec, tensor)).collect::<Result<_>>()?;
    validate(spec, given)
}

/// The work of reading an input, in bytes of memory that are read one by one. A raw input counts an
/// eighth of its bytes, because much less of it is read.
fn work(tensor: &sigmax::Tensor) -> usize {
    match &tensor.data {
        None => 0,
        Some(Data::Raw(bytes)) => bytes.len() / 8,
        Some(Data::Values(values)) => {
            let wide = values.doubles.len() + values.ints.len() + values.uints.len();
            let text = values.strings.iter().map(|text| size_of::<Bytes>() + text.len());
            values.bools.len() + 4 * values.floats.len() + 8 * wide + text.sum::<usize>()
        }
    }
}

/// An input with its elements. An input that the model does not have, or has with another type,
/// comes without elements: the check refuses it anyway.
fn given(spec: &ModelSpec, tensor: sigmax::Tensor) -> Result<Given> {
    let sigmax::Tensor { name, dtype, shape, data } = tensor;
    let dtype = dtype_of_wire(dtype);
    let fits = |input: &&TensorSpec| dtype.as_ref().is_none_or(|it| *it == Ok(input.dtype));
    let data = match spec.input(&name).map(|index| &spec.inputs[index]).filter(fits) {
        Some(input) => elements(spec, input, data)?,
        None => Bytes::new(),
    };
    Ok(Given { name, dtype, shape, data: request::Data::Here(data) })
}

/// The bytes of an input's elements.
fn elements(model: &ModelSpec, input: &TensorSpec, data: Option<Data>) -> Result<Bytes> {
    match data {
        Some(Data::Raw(bytes)) => Ok(bytes),
        Some(Data::Values(values)) => from_values(input.dtype, values).map_err(|detail| {
            Error::BadElement { model: model.name.clone(), input: input.name.clone(), detail }
        }),
        None => Err(Error::NoData { model: model.name.clone(), input: input.name.clone() }),
    }
}
