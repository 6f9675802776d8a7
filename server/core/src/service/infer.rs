//! `inference.GRPCInferenceService/ModelInfer`: decode, check, run, encode.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::check::{Checked, Given, check, names};
use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::proto::inference::model_infer_request::InferRequestedOutputTensor;
use crate::proto::inference::{InferParameter, ModelInferRequest};
use crate::served::Served;
use crate::shard::{Found, Shard};
use crate::tensor::{DType, Tensor};
use crate::unary::{Call, PREFIX, Received};

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

/// A request that is ready to be run.
#[derive(Debug)]
struct Prepared {
    served: Rc<Served>,
    id: String,
    /// Those to return, in order.
    outputs: Vec<usize>,
    checked: Checked,
}

/// Answers a unary call.
pub async fn answer(
    shard: &Shard,
    message: Received,
    call: Call,
    found: &Found,
) -> Result<BytesMut> {
    let Prepared { served, id, outputs, checked } = prepare(shard, message.decode()?, found)?;
    let answer = served.run(checked, call.deadline).await?;
    Ok(encode(&served.model.spec, &id, &answer.outputs, &outputs))
}

/// Finds the model and holds the request against it.
fn prepare(shard: &Shard, request: ModelInferRequest, found: &Found) -> Result<Prepared> {
    let served = shard.find(&request.model_name, &request.model_version, found)?;
    let spec = &served.model.spec;
    let outputs = outputs(spec, request.outputs)?;
    let given = given(spec, request.inputs, request.raw_input_contents)?;
    let no_data = |name: &str| Error::NoData { model: spec.name.clone(), input: name.to_owned() };
    let checked = check(spec, given, |input, raw| raw.ok_or_else(|| no_data(&input.name)))?;
    Ok(Prepared { served, id: request.id, outputs, checked })
}

/// The ModelInferResponse with these outputs, in this order. Written field by field because a
/// generated message would copy every name.
fn encode(spec: &ModelSpec, id: &str, tensors: &[Tensor], outputs: &[usize]) -> BytesMut {
    let size: usize = outputs.iter().map(|index| tensors[*index].data.len() + 64).sum();
    let mut reply = BytesMut::with_capacity(PREFIX + 128 + id.len() + size);
    reply.put_bytes(0, PREFIX);
    put_text(MODEL_NAME, &spec.name, &mut reply);
    put_text(MODEL_VERSION, &spec.version.to_string(), &mut reply);
    if !id.is_empty() {
        put_text(ID, id, &mut reply);
    }
    for &index in outputs {
        let (name, tensor) = (&spec.outputs[index].name, &tensors[index]);
        let dtype = tensor.dtype.name();
        let sizes = tensor.shape.iter().map(|size| *size as u64);
        let shape_size = sizes.clone().map(encoded_len_varint).sum();
        let parts = [name.len(), dtype.len(), shape_size];
        let tensor_size = parts.map(|size| 1 + encoded_len_varint(size as u64) + size);
        encode_key(OUTPUTS, WireType::LengthDelimited, &mut reply);
        encode_varint(tensor_size.iter().sum::<usize>() as u64, &mut reply);
        put_text(NAME, name, &mut reply);
        put_text(DATATYPE, dtype, &mut reply);
        encode_key(SHAPE, WireType::LengthDelimited, &mut reply);
        encode_varint(shape_size as u64, &mut reply);
        sizes.for_each(|size| encode_varint(size, &mut reply));
    }
    for &index in outputs {
        put_bytes(RAW_OUTPUT_CONTENTS, &tensors[index].data, &mut reply);
    }
    reply
}

fn put_text(field: u32, text: &str, reply: &mut BytesMut) {
    put_bytes(field, text.as_bytes(), reply);
}

fn put_bytes(field: u32, bytes: &[u8], reply: &mut BytesMut) {
    encode_key(field, WireType::LengthDelimited, reply);
    encode_varint(bytes.len() as u64, reply);
    reply.put_slice(bytes);
}

type Input = crate::proto::inference::model_infer_request::InferInputTensor;

/// Pairs the inputs with their raw contents, in order. Empty typed contents beside raw ones are
/// what some converters send, and no contents.
fn given(
    spec: &ModelSpec,
    inputs: Vec<Input>,
    raw: Vec<Bytes>,
) -> Result<Vec<Given<Option<Bytes>>>> {
    let no_raw = raw.is_empty();
    let mut raw = raw.into_iter();
    let pair = |input: Input| {
        match input.contents {
            Some(_) if no_raw => {
                return Err(unimplemented("typed contents", "raw_input_contents"));
            }
            Some(contents) if contents != Default::default() => {
                return Err(Error::TwoForms { model: spec.name.clone(), input: input.name });
            }
            _ => {}
        }
        refuse_shared_memory(&input.parameters)?;
        Ok(Given {
            dtype: Some(DType::from_name(&input.datatype).ok_or(input.datatype)),
            name: input.name,
            shape: input.shape,
            data: raw.next(),
        })
    };
    inputs.into_iter().map(pair).collect()
}

/// Which outputs to return: those asked for, in the order of the request; else all.
fn outputs(spec: &ModelSpec, asked: Vec<InferRequestedOutputTensor>) -> Result<Vec<usize>> {
    if asked.is_empty() {
        return Ok((0..spec.outputs.len()).collect());
    }
    let mut indices = Vec::new();
    for output in asked {
        let Some(index) = spec.outputs.iter().position(|spec| spec.name == output.name) else {
            return Err(Error::UnexpectedOutput {
                model: spec.name.clone(),
                output: output.name,
                expected: names(&spec.outputs),
            });
        };
        if indices.contains(&index) {
            return Err(Error::DuplicateOutput { output: output.name });
        }
        refuse_shared_memory(&output.parameters)?;
        if output.parameters.contains_key("classification") {
            return Err(unimplemented("the parameter 'classification'", "an output as it is"));
        }
        indices.push(index);
    }
    Ok(indices)
}

fn refuse_shared_memory(parameters: &BTreeMap<String, InferParameter>) -> Result<()> {
    match parameters.contains_key("shared_memory_region") {
        true => Err(unimplemented("a shared memory region", "raw contents")),
        false => Ok(()),
    }
}

fn unimplemented(came: &str, expected: &str) -> Error {
    Error::Unimplemented {
        detail: format!("expected {expected}, got {came}, which is not read yet"),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::model::TensorSpec;
    use crate::proto::inference::ModelInferResponse;

    #[test]
    fn the_response_is_what_a_generated_message_reads() {
        let names =
            ["first", "a name of more than one hundred and twenty-eight bytes: ".repeat(3).leak()];
        let outputs = names.map(|name| TensorSpec {
            name: name.into(),
            dtype: DType::Fp32,
            dims: vec![-1, 300],
            meaning: String::new(),
        });
        let spec = ModelSpec {
            name: "model".into(),
            version: 12,
            inputs: vec![],
            outputs: outputs.to_vec(),
            max_batch_size: 8,
            task: None,
            labels: vec![],
            thresholds: vec![],
            tolerance: 0.0,
            device: "cpu".into(),
        };
        let tensor = |shape: &[usize], byte: u8| {
            let size = shape.iter().product::<usize>();
            let data = Bytes::from(vec![byte; size]);
            Tensor { dtype: DType::Uint8, shape: shape.to_vec(), data }
        };
        let tensors = [tensor(&[2, 300], 1), tensor(&[0, 4], 2)];
        let reply = encode(&spec, "an id", &tensors, &[1, 0]);
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
