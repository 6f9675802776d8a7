//! `inference.GRPCInferenceService/ModelInfer`: decode, check, run, encode.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::check::{Given, check, names};
use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::proto::inference::model_infer_request::InferRequestedOutputTensor;
use crate::proto::inference::model_infer_response::InferOutputTensor;
use crate::proto::inference::{InferParameter, ModelInferRequest, ModelInferResponse};
use crate::shard::{Found, Shard};
use crate::tensor::DType;
use crate::unary::{Call, PREFIX, Received};

/// The call's path.
pub const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Answers a unary call.
pub async fn answer(
    shard: &Shard,
    message: Received,
    call: Call,
    found: &Found,
) -> Result<BytesMut> {
    let request: ModelInferRequest = message.decode()?;
    let served = shard.find(&request.model_name, &request.model_version, found)?;
    let spec = &served.model.spec;
    let outputs = outputs(spec, request.outputs)?;
    let given = given(spec, request.inputs, request.raw_input_contents)?;
    let no_data = |name: &str| Error::NoData { model: spec.name.clone(), input: name.to_owned() };
    let checked = check(spec, given, |input, raw| raw.ok_or_else(|| no_data(&input.name)))?;
    let mut answer = served.run(checked, call.deadline).await?;

    let mut response = ModelInferResponse {
        model_name: spec.name.clone(),
        model_version: spec.version.to_string(),
        id: request.id,
        ..Default::default()
    };
    for index in outputs {
        let tensor = &mut answer.outputs[index];
        response.outputs.push(InferOutputTensor {
            name: spec.outputs[index].name.clone(),
            datatype: tensor.dtype.name().to_owned(),
            shape: tensor.shape.iter().map(|size| *size as i64).collect(),
            ..Default::default()
        });
        response.raw_output_contents.push(std::mem::take(&mut tensor.data));
    }
    let mut reply = BytesMut::with_capacity(PREFIX + response.encoded_len());
    reply.put_bytes(0, PREFIX);
    response.encode_raw(&mut reply);
    Ok(reply)
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

fn refuse_shared_memory(parameters: &HashMap<String, InferParameter>) -> Result<()> {
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
