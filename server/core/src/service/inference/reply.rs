//! The ModelInferResponse, encoded.

use std::collections::BTreeMap;
use std::iter;
use std::sync::LazyLock;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::error::{Error, Result};
use crate::model::{ModelSpec, TensorSpec};
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::{InferParameter, ModelInferResponse};
use crate::service::answer_size::fits;
use crate::service::inference::classification;
use crate::service::inference::outputs::{Delivery, Wanted};
use crate::shared_memory::Slice;
use crate::tensor::Tensor;

// Field numbers of ModelInferResponse in proto/inference/grpc_service.proto.
const MODEL_NAME: u32 = 1;
const MODEL_VERSION: u32 = 2;
const ID: u32 = 3;
const OUTPUTS: u32 = 5;
const RAW_OUTPUT_CONTENTS: u32 = 6;
// Field numbers of ModelInferResponse.InferOutputTensor.
const NAME: u32 = 1;
const DATATYPE: u32 = 2;
const SHAPE: u32 = 3;

/// The bytes that every answer of a stream begins with: a parameter which says that no other answer
/// to the same request follows.
pub static LAST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    let parameters = BTreeMap::from([("triton_final_response".to_owned(), last)]);
    ModelInferResponse { parameters, ..Default::default() }.encode_to_vec()
});

/// An encoded ModelInferResponse that holds only the ID of its request.
pub fn empty(id: String) -> Bytes {
    ModelInferResponse { id, ..Default::default() }.encode_to_vec().into()
}

/// The encoded ModelInferResponse with these outputs, in this order, after `head`. The message is
/// written field by field because a generated message would copy every name.
pub fn encode(
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
                // The output has an entry all the same, of no bytes: clients find the other outputs
                // by their place.
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

/// Writes an output's InferOutputTensor.
fn put_tensor(spec: &TensorSpec, tensor: &Tensor, reply: &mut BytesMut) {
    let (name, dtype) = (&spec.name, tensor.dtype.name());
    // A scalar has the shape that its configuration declares: no axes, or axes of size 1.
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

/// Writes an output into the shared memory that the client has named; an error where it has no
/// room.
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
    use crate::grpc::message::PREFIX;
    use crate::tensor::DType;

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
