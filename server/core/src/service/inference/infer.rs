//! `inference.GRPCInferenceService/ModelInfer`: decode, check, run, encode.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::LazyLock;
use std::{iter, mem};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::error::{Error, Result};
use crate::grpc::budget::Held;
use crate::grpc::message::{READ, beside};
use crate::grpc::{Call, PREFIX};
use crate::model::{ModelSpec, TensorSpec};
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::proto::inference::{InferParameter, ModelInferRequest, ModelInferResponse};
use crate::scheduler::request::{Answer, Data};
use crate::scheduler::served_model::{Served, Wish};
use crate::service::fits;
use crate::service::inference::parameters::{bad, wish, wrong_type};
use crate::service::inference::{classification, contents, shared_memory};
use crate::service::validate::{Checked, Given, check, names, unique};
use crate::shard::{Shard, Shared, Trace};
use crate::shared_memory::{Regions, Slice};
use crate::tensor::{DType, Tensor};

/// The call's path.
pub const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

// Field numbers of ModelInferResponse in proto/inference/grpc_service.proto.
const MODEL_NAME: u32 = 1;
const MODEL_VERSION: u32 = 2;
const ID: u32 = 3;
const OUTPUTS: u32 = 5;
const RAW_OUTPUT_CONTENTS: u32 = 6;
// Of its InferOutputTensor.
const NAME: u32 = 1;
const DATATYPE: u32 = 2;
const SHAPE: u32 = 3;

/// An output to return.
#[derive(Debug)]
struct Wanted {
    index: usize,
    delivery: Delivery,
}

/// What is kept of a request while it runs.
#[derive(Debug)]
struct Pending {
    served: Rc<Served>,
    outputs: Vec<Wanted>,
    id: String,
}

/// How an output is returned.
#[derive(Debug)]
enum Delivery {
    /// As it is.
    Raw,
    /// By the so many highest values.
    Classes(usize),
    /// Into shared memory.
    Shared(Box<Slice>),
}

/// What every answer of a stream begins with: that no other follows it.
static LAST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    let parameters = BTreeMap::from([("triton_final_response".to_owned(), last)]);
    ModelInferResponse { parameters, ..Default::default() }.encode_to_vec()
});

/// Answers a unary call.
pub async fn answer(
    shard: &Shard,
    request: ModelInferRequest,
    call: Call,
    held: &mut Held,
    trace: &Trace,
) -> Result<BytesMut> {
    let (pending, checked, wish) = prepare(shard, request, call, held, trace).await?;
    let result = pending.served.run(checked, wish).await;
    pending.finish(result, trace, &[0; PREFIX])
}

/// Answers one request of a stream, by an encoded ModelInferResponse without a prefix.
pub async fn answer_one(
    shard: &Shard,
    request: ModelInferRequest,
    call: Call,
    held: &mut Held,
    trace: &Trace,
) -> Result<BytesMut> {
    let (pending, checked, wish) = prepare(shard, request, call, held, trace).await?;
    let result = pending.served.run(checked, wish).await;
    pending.finish(result, trace, &LAST)
}

/// A ModelInferResponse that says only which request it is about.
pub fn empty(id: String) -> Bytes {
    ModelInferResponse { id, ..Default::default() }.encode_to_vec().into()
}

/// Finds the model and holds the request against it.
async fn prepare(
    shard: &Shard,
    mut request: ModelInferRequest,
    call: Call,
    held: &mut Held,
    trace: &Trace,
) -> Result<(Pending, Checked, Wish)> {
    let id = mem::take(&mut request.id);
    let served = match shard.find(&request.model_name, &request.model_version, trace) {
        Ok(served) => served,
        Err(error) => return Err(error.of_request(id)),
    };
    let result = if work(&request) <= READ {
        checked(&shard.shared, &served.model.spec, request, held)
    } else {
        Box::pin(checked_beside(shard, &served, request, held)).await
    };
    match result {
        Ok((outputs, checked, wish)) => {
            let is_raw = |output: &Wanted| matches!(output.delivery, Delivery::Raw);
            let wish = Wish {
                ready: Some(call.ready),
                deadline: call.deadline,
                all_outputs: outputs.len() == served.model.spec.outputs.len()
                    && outputs.iter().all(is_raw),
                ..wish
            };
            Ok((Pending { served, outputs, id }, checked, wish))
        }
        Err(error) => Err(error.of_request(id)),
    }
}

/// What is read of a request one by one, in bytes of memory; of raw ones much less is.
fn work(request: &ModelInferRequest) -> usize {
    let raw = request.raw_input_contents.iter().map(Bytes::len);
    let typed = request.inputs.iter().filter_map(|input| input.contents.as_ref());
    let shared = request.inputs.iter().filter(|input| !input.parameters.is_empty());
    let shared = shared.map(|input| shared_memory::size(&input.parameters));
    let read = raw.chain(shared).map(|size| size / 8).chain(typed.map(contents::size));
    read.fold(0, usize::saturating_add)
}

async fn checked_beside(
    shard: &Shard,
    served: &Served,
    request: ModelInferRequest,
    held: &mut Held,
) -> Result<(Vec<Wanted>, Checked, Wish)> {
    let (shared, model, mut more) = (shard.shared.clone(), served.model.clone(), held.beside());
    let work = move || Ok((checked(&shared, &model.spec, request, &mut more)?, more));
    let (checked, more) = beside(work).await?;
    held.join(more);
    Ok(checked)
}

/// In the order that Triton checks.
fn checked(
    shared: &Shared,
    spec: &ModelSpec,
    request: ModelInferRequest,
    held: &mut Held,
) -> Result<(Vec<Wanted>, Checked, Wish)> {
    let wish = wish(&request.parameters)?;
    unique(request.inputs.iter().map(|input| &*input.name))
        .map_err(|input| Error::DuplicateInput { input: input.to_owned() })?;
    unique(request.outputs.iter().map(|output| &*output.name))
        .map_err(|output| Error::DuplicateOutput { output: output.to_owned() })?;
    let regions = &shared.regions;
    let given = given(spec, regions, request.inputs, request.raw_input_contents)?;
    let outputs = wanted(spec, regions, request.outputs)?;
    hold_shared(&given, shared.message_limit, held)?;
    let checked = check(spec, given, |_, data| Ok(data))?;
    checked.hold(held)?;
    Ok((outputs, checked, wish))
}

impl Pending {
    /// The reply, which begins with `head`.
    fn finish(self, result: Result<Answer>, trace: &Trace, head: &[u8]) -> Result<BytesMut> {
        let reply = result.and_then(|mut answer| {
            trace.ran(&answer);
            let spec = &self.served.model.spec;
            encode(spec, &self.id, &mut answer.outputs, &self.outputs, head)
        });
        reply.map_err(|error| error.of_request(self.id))
    }
}

/// Finds each input's elements.
fn given(
    spec: &ModelSpec,
    regions: &Regions,
    inputs: Vec<InferInputTensor>,
    raw: Vec<Bytes>,
) -> Result<Vec<Given<Data>>> {
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
            // Some converters send empty typed contents beside raw ones.
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

/// Holds what will be copied of shared memory, which is bounded as if it came in the message.
fn hold_shared(given: &[Given<Data>], limit: usize, held: &mut Held) -> Result<()> {
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

/// Which outputs to return, and how: those asked for, in the order of the request; else all.
fn wanted(
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

/// The ModelInferResponse with these outputs, in this order, after `head`. Written field by field
/// because a generated message would copy every name.
fn encode(
    spec: &ModelSpec,
    id: &str,
    tensors: &mut [Tensor],
    outputs: &[Wanted],
    head: &[u8],
) -> Result<BytesMut> {
    let mut size = head.len() + 128 + id.len();
    let mut held = 0;
    for Wanted { index, delivery } in outputs {
        let tensor = &mut tensors[*index];
        match delivery {
            Delivery::Raw => {}
            Delivery::Classes(count) => {
                *tensor = classification::classes(spec, *index, tensor, *count)?;
            }
            Delivery::Shared(slice) => {
                share(&spec.outputs[*index].name, tensor, slice)?;
                // An entry all the same: clients find the others by their place.
                tensor.data = Bytes::new();
            }
        }
        size += 64 + tensor.data.len();
        held += tensor.data.len();
    }
    fits(held, spec)?;
    let mut reply = BytesMut::with_capacity(size);
    reply.put_slice(head);
    put_text(MODEL_NAME, &spec.name, &mut reply);
    put_text(MODEL_VERSION, &spec.version.to_string(), &mut reply);
    if !id.is_empty() {
        put_text(ID, id, &mut reply);
    }
    for Wanted { index, .. } in outputs {
        put_tensor(&spec.outputs[*index], &tensors[*index], &mut reply);
    }
    for Wanted { index, .. } in outputs {
        put_bytes(RAW_OUTPUT_CONTENTS, &tensors[*index].data, &mut reply);
    }
    Ok(reply)
}

/// An InferOutputTensor.
fn put_tensor(spec: &TensorSpec, tensor: &Tensor, reply: &mut BytesMut) {
    let (name, dtype) = (&spec.name, tensor.dtype.name());
    // A scalar is shown as its configuration declares it: as itself, or by axes of size 1.
    let ones = if tensor.shape.is_empty() { spec.dims.len() } else { 0 };
    let sizes = tensor.shape.iter().map(|size| *size as u64).chain(iter::repeat_n(1, ones));
    let shape_size = sizes.clone().map(encoded_len_varint).sum();
    let parts = [name.len(), dtype.len(), shape_size];
    let tensor_size = parts.map(|size| 1 + encoded_len_varint(size as u64) + size);
    encode_key(OUTPUTS, WireType::LengthDelimited, reply);
    encode_varint(tensor_size.iter().sum::<usize>() as u64, reply);
    put_text(NAME, name, reply);
    put_text(DATATYPE, dtype, reply);
    encode_key(SHAPE, WireType::LengthDelimited, reply);
    encode_varint(shape_size as u64, reply);
    sizes.for_each(|size| encode_varint(size, reply));
}

/// Writes an output where the client wants it.
fn share(name: &str, tensor: &Tensor, slice: &Slice) -> Result<()> {
    let (found, expected) = (slice.len(), tensor.data.len());
    if found < expected {
        return Err(Error::RegionTooSmall { output: name.to_owned(), found, expected });
    }
    slice.write(&tensor.data)
}

fn put_text(field: u32, text: &str, reply: &mut BytesMut) {
    put_bytes(field, text.as_bytes(), reply);
}

fn put_bytes(field: u32, bytes: &[u8], reply: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, reply);
    encode_varint(bytes.len() as u64, reply);
    reply.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_is_what_a_generated_message_reads() {
        let names =
            ["first", "a name of more than one hundred and twenty-eight bytes: ".repeat(3).leak()];
        let outputs = names.map(|name| TensorSpec::new(name, DType::Fp32, &[-1, 300]));
        let spec = ModelSpec {
            name: "model".into(),
            version: 12,
            inputs: vec![],
            outputs: outputs.to_vec(),
            max_batch_size: 8,
            ..Default::default()
        };
        let tensor = |shape: &[usize], byte: u8| {
            let size = shape.iter().product::<usize>();
            let data = Bytes::from(vec![byte; size]);
            Tensor { dtype: DType::Uint8, shape: shape.to_vec(), data }
        };
        let mut tensors = [tensor(&[2, 300], 1), tensor(&[0, 4], 2)];
        let outputs = [1, 0].map(|index| Wanted { index, delivery: Delivery::Raw });
        let reply = encode(&spec, "an id", &mut tensors, &outputs, &[0; PREFIX]);
        let reply = reply.expect("encodes");
        let reply = ModelInferResponse::decode(&reply[PREFIX..]).expect("a response");
        assert_eq!(
            (&*reply.model_name, &*reply.model_version, &*reply.id),
            ("model", "12", "an id")
        );
        let described: Vec<_> =
            reply.outputs.iter().map(|o| (&*o.name, &*o.datatype, &o.shape[..])).collect();
        assert_eq!(described, [(names[1], "UINT8", &[0, 4][..]), (names[0], "UINT8", &[2, 300])]);
        assert_eq!(reply.raw_output_contents, [tensors[1].data.clone(), tensors[0].data.clone()]);
    }
}
