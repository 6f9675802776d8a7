//! The weight of a message: the memory that it will hold once decoded, told from its bytes before.
//!
//! A few bytes on the wire may be hundreds in memory: an empty tensor takes two and becomes a
//! structure of its own. The scan reads keys and lengths, and skips what they announce.

use std::mem::size_of;
use std::ops::AddAssign;

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::error::{Error, Result};

/// The most embedded messages (inputs, outputs, parameters, settings) that one message may have.
const PARTS: usize = 16_384;
/// Bytes that an allocation takes beside its content.
const ALLOCATION: usize = 16;
/// Bytes of a `String` or `Vec` itself, without its content.
const TEXT: usize = 24;
/// Bytes of a `Bytes` itself, without its content.
const BYTES: usize = 32;
/// The most levels of messages within messages that are weighed: more than any message in `proto/`
/// has. Messages at deeper levels are not read by a decoder.
const DEPTH: usize = 100;

/// The shape of a kind of message, from which its weight is told.
#[derive(Debug)]
pub struct Shape {
    /// Bytes that the message takes, without what its fields take elsewhere.
    bytes: usize,
    /// The kinds of the message's fields, by the fields' numbers.
    fields: &'static [Kind],
}

/// The facts about a call that follow from its path.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    /// The shape of a message that the call takes.
    pub message: &'static Shape,
    /// Whether the call takes one message, and no stream of them.
    pub one_message: bool,
    /// Whether the call takes or answers a stream, and so may be open for long.
    pub stream: bool,
}

/// A kind of field.
#[derive(Debug)]
enum Kind {
    /// A field that takes nothing beside its message: a number, bytes that share the message's
    /// memory, or an unknown field.
    Plain,
    /// A text, which is copied out of the message.
    Text { repeated: bool },
    /// Repeated bytes, which share the message's memory; where `copied`, they become a tensor as
    /// well.
    Bytes { copied: bool },
    /// Repeated numbers of so many bytes each: on the wire, none where they vary, and in memory.
    Numbers { wire: Option<usize>, bytes: usize },
    /// One or more embedded messages.
    Message(&'static Shape),
}

#[allow(missing_docs, dead_code)]
mod shapes {
    use super::{Kind, Kinds, Shape};
    include!(concat!(env!("OUT_DIR"), "/shapes.rs"));
}

pub use shapes::{
    INFERENCE_MODELINFERREQUEST, SIGMAX_V1_CLASSIFYREQUEST, SIGMAX_V1_CLASSIFYSTREAMREQUEST,
    of_call,
};

/// The weight of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Bytes that the message holds beside its own, once decoded and on its way to an engine.
    pub bytes: usize,
    /// The number of embedded messages.
    pub parts: usize,
    /// Bytes of the message that are read one by one.
    pub work: usize,
}

impl Weight {
    /// The weight itself; an error where the message has more parts than any model takes.
    pub fn within_limits(self) -> Result<Self> {
        match self.parts {
            ..=PARTS => Ok(self),
            found => Err(Error::TooManyParts { found, limit: PARTS }),
        }
    }
}

impl AddAssign for Weight {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.parts += other.parts;
        self.work += other.work;
    }
}

/// The effort that weighing a message may take.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The most fields that are read.
    pub fields: usize,
    /// The most bytes that are read one by one.
    pub work: usize,
}

impl Effort {
    /// The effort for a message of any size.
    pub const WHOLE: Self = Self { fields: usize::MAX, work: usize::MAX };
}

/// The weight of a message; none where weighing it takes more than the effort.
/// A malformed message weighs what it has before the fault: no decoder reads on there.
pub fn weigh(shape: &Shape, message: impl Buf, effort: Effort) -> Option<Weight> {
    let mut scale = Scale { message, effort, weight: Weight::default() };
    match scale.fields_of(shape, 0, 0) {
        Err(Stop::TooMuch) => None,
        Ok(()) | Err(Stop::Malformed) => {
            Some(scale.weight).filter(|weight| weight.work <= effort.work)
        }
    }
}

/// The reason for which a scan ends early.
enum Stop {
    Malformed,
    TooMuch,
}

impl From<prost::DecodeError> for Stop {
    fn from(_: prost::DecodeError) -> Self {
        Self::Malformed
    }
}

struct Scale<B> {
    message: B,
    /// The fields and bytes that may still be read.
    effort: Effort,
    weight: Weight,
}

impl<B: Buf> Scale<B> {
    /// Reads a message's fields, up to where `left` bytes are left.
    fn fields_of(&mut self, shape: &Shape, left: usize, depth: usize) -> Result<(), Stop> {
        while self.message.remaining() > left {
            if self.weight.work > self.effort.work {
                return Err(Stop::TooMuch);
            }
            self.effort.fields = self.effort.fields.checked_sub(1).ok_or(Stop::TooMuch)?;
            let (number, wire) = decode_key(&mut self.message)?;
            let kind = shape.fields.get(number as usize).unwrap_or(&Kind::Plain);
            match (kind, wire) {
                (Kind::Plain, _) | (_, WireType::StartGroup | WireType::EndGroup) => {
                    skip_field(wire, number, &mut self.message, DecodeContext::default())?;
                }
                (_, WireType::LengthDelimited) => self.delimited(kind, depth)?,
                (_, _) => {
                    if let Kind::Numbers { bytes, .. } = kind {
                        self.weight += Weight { bytes: *bytes, parts: 0, work: 1 };
                    }
                    skip_field(wire, number, &mut self.message, DecodeContext::default())?;
                }
            }
        }
        // A field that goes on behind the end of its message is an error to a decoder.
        if self.message.remaining() == left { Ok(()) } else { Err(Stop::Malformed) }
    }

    fn delimited(&mut self, kind: &Kind, depth: usize) -> Result<(), Stop> {
        let length = decode_varint(&mut self.message)?;
        let Some(left) = self.message.remaining().checked_sub(length as usize) else {
            return Err(Stop::Malformed);
        };
        let length = length as usize;
        match kind {
            Kind::Message(shape) if depth < DEPTH => {
                self.weight += Weight { bytes: shape.bytes, parts: 1, work: 0 };
                return self.fields_of(shape, left, depth + 1);
            }
            Kind::Message(_) => return Err(Stop::Malformed),
            Kind::Numbers { wire, bytes } => {
                self.weight.work += length;
                if self.weight.work > self.effort.work {
                    return Err(Stop::TooMuch);
                }
                let count = match wire {
                    Some(size) => {
                        self.message.advance(length);
                        length.div_ceil(*size)
                    }
                    None => self.varints(length),
                };
                self.weight += Weight { bytes: count * bytes, ..Default::default() };
                return Ok(());
            }
            Kind::Text { repeated } => {
                let own = if *repeated { TEXT } else { 0 };
                let copy = if length > 0 { length + ALLOCATION } else { 0 };
                self.weight += Weight { bytes: own + copy, parts: 0, work: length };
            }
            Kind::Bytes { copied } => {
                let copy = if *copied { size_of::<u32>() + length } else { 0 };
                self.weight += Weight { bytes: BYTES + copy, parts: 0, work: copy };
            }
            Kind::Plain => {}
        }
        self.message.advance(length);
        Ok(())
    }

    /// Passes over so many bytes. Returns the number of varints that end there.
    fn varints(&mut self, mut length: usize) -> usize {
        let mut count = 0;
        while length > 0 {
            let chunk = self.message.chunk();
            let chunk = &chunk[..chunk.len().min(length)];
            count += chunk.iter().filter(|byte| **byte < 0x80).count();
            length -= chunk.len();
            self.message.advance(chunk.len());
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use prost::Message;

    use super::*;
    use crate::proto::inference::infer_parameter::ParameterChoice;
    use crate::proto::inference::model_infer_request::{
        InferInputTensor, InferRequestedOutputTensor,
    };
    use crate::proto::inference::{InferParameter, InferTensorContents, ModelInferRequest};
    use crate::proto::sigmax::{self, ClassifyRequest, tensor::Data};

    fn weight(shape: &Shape, message: &[u8]) -> Weight {
        weigh(shape, message, Effort::WHOLE).expect("no limit")
    }

    fn request() -> ModelInferRequest {
        let value = ParameterChoice::StringParam("value".into());
        let parameter = InferParameter { parameter_choice: Some(value) };
        let parameters =
            BTreeMap::from([("a".to_owned(), parameter.clone()), ("b".into(), parameter)]);
        let contents = InferTensorContents {
            int64_contents: vec![1, 300, -1],
            fp32_contents: vec![1.0; 5],
            bytes_contents: vec![Bytes::from_static(b"text"); 2],
            ..Default::default()
        };
        let input = InferInputTensor {
            name: "x".into(),
            shape: vec![-1; 4],
            parameters: parameters.clone(),
            contents: Some(contents),
            ..Default::default()
        };
        let output = InferRequestedOutputTensor { name: "y".into(), ..Default::default() };
        ModelInferRequest {
            model_name: "model".into(),
            parameters,
            inputs: vec![input; 3],
            outputs: vec![output],
            raw_input_contents: vec![Bytes::from_static(&[7; 100])],
            ..Default::default()
        }
    }

    #[test]
    fn all_that_a_message_becomes_is_weighed() {
        let message = request().encode_to_vec();
        let found = weight(&INFERENCE_MODELINFERREQUEST, &message);
        // Four lists of two parameters, each an entry and its value; three inputs and their
        // contents; one output.
        assert_eq!(found.parts, 4 * 2 * 2 + 3 * 2 + 1);
        let inputs = 3 * (size_of::<InferInputTensor>() + 4 * 8);
        let parameters = 4 * 2 * (size_of::<InferParameter>() + TEXT + "a".len() + "value".len());
        let contents = 3 * 2 * (3 * 8 + 5 * 4) + 3 * 2 * (BYTES + 4 + 4);
        assert!(found.bytes > inputs + parameters + contents, "{found:?}");
        assert!(found.bytes < 4 * (inputs + parameters + contents), "{found:?}");
    }

    #[test]
    fn a_raw_tensor_weighs_next_to_nothing() {
        let data = Some(Data::Raw(vec![1; 1 << 20].into()));
        let tensor = sigmax::Tensor { shape: vec![1, 1 << 20], data, ..Default::default() };
        let request = ClassifyRequest { inputs: vec![tensor], ..Default::default() };
        let found = weight(&SIGMAX_V1_CLASSIFYREQUEST, &request.encode_to_vec());
        assert!(found.bytes < 1000 && found.work < 1000, "{found:?}");
    }

    #[test]
    fn an_empty_part_weighs_as_much_as_it_takes() {
        let request =
            ClassifyRequest { inputs: vec![Default::default(); 20_000], ..Default::default() };
        let message = request.encode_to_vec();
        assert_eq!(message.len(), 40_000);
        let found = weight(&SIGMAX_V1_CLASSIFYREQUEST, &message);
        assert!(found.bytes >= 20_000 * size_of::<sigmax::Tensor>(), "{found:?}");
        let refused = Error::TooManyParts { found: 20_000, limit: PARTS };
        assert_eq!(found.within_limits(), Err(refused));
    }

    #[test]
    fn numbers_are_weighed_packed_or_not() {
        let list = |key: u8, value: &[u8], packed: bool| {
            let values = value.repeat(300);
            match packed {
                true => [&[key << 3 | 2][..], &varint(values.len()), &values].concat(),
                false => {
                    [&[key << 3 | if value.len() == 4 { 5 } else { 0 }], value].concat().repeat(300)
                }
            }
        };
        // The fields bool_contents, int64_contents and fp32_contents, in the contents of an input.
        for (key, value, bytes) in [(1, &[1][..], 1), (3, &[0x80, 1], 8), (6, &[0; 4], 4)] {
            for packed in [true, false] {
                let contents = list(key, value, packed);
                let input = [&[5 << 3 | 2][..], &varint(contents.len()), &contents].concat();
                let message = [&[5 << 3 | 2][..], &varint(input.len()), &input].concat();
                let decoded = ModelInferRequest::decode(&message[..]).expect("a message");
                assert_eq!(decoded.inputs.len(), 1);
                let found = weight(&INFERENCE_MODELINFERREQUEST, &message).bytes;
                let empty = weight(&INFERENCE_MODELINFERREQUEST, &[0x2a, 2, 0x2a, 0]).bytes;
                assert_eq!(found - empty, 300 * 2 * bytes, "field {key}, packed: {packed}");
            }
        }
    }

    fn varint(value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(value as u64, &mut bytes);
        bytes
    }

    #[test]
    fn what_is_cut_or_changed_weighs_what_a_decoder_reads() {
        let message = request().encode_to_vec();
        let whole = weight(&INFERENCE_MODELINFERREQUEST, &message);
        for length in 0..message.len() {
            let cut = weight(&INFERENCE_MODELINFERREQUEST, &message[..length]);
            assert!(cut.bytes <= whole.bytes && cut.parts <= whole.parts);
        }
        for place in 0..message.len() {
            for value in [0, 1, 0x0b, 0x2a, 0x7f, 0xff] {
                let mut changed = message.clone();
                changed[place] = value;
                let found = weight(&INFERENCE_MODELINFERREQUEST, &changed);
                if let Ok(request) = ModelInferRequest::decode(&changed[..]) {
                    assert!(found.parts >= request.inputs.len() + request.outputs.len());
                }
            }
        }
    }

    #[test]
    fn effort_is_bounded() {
        let message = request().encode_to_vec();
        let weigh = |fields, work| {
            weigh(&INFERENCE_MODELINFERREQUEST, &message[..], Effort { fields, work })
        };
        assert_eq!(weigh(10, usize::MAX), None);
        assert_eq!(weigh(usize::MAX, 20), None);
        assert!(weigh(1000, 1000).is_some());
    }

    #[test]
    fn the_message_of_every_call_is_known() {
        let path = "/inference.GRPCInferenceService/RepositoryModelLoad";
        let load = of_call(path).expect("one of ours");
        assert_eq!(weight(load.message, &[0x1a, 0, 0x1a, 0]).parts, 2);
        assert!(load.one_message && !load.stream);
        let watch = of_call("/grpc.health.v1.Health/Watch").expect("one of ours");
        assert!(watch.one_message && watch.stream);
        assert!(of_call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").is_none());
    }
}
