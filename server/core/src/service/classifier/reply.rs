//! The ClassifyResponse: every row is decided and encoded straight from the output tensor.
//!
//! The encoder is written by hand because a generated message would copy a label for every class of
//! every row.

use bytes::{BufMut, BytesMut};
use prost::encoding::{
    WireType, encode_key, encode_varint, encoded_len_varint, key_len, message, string,
};

use crate::error::Result;
use crate::grpc::head::Call;
use crate::metrics::timings::nanoseconds;
use crate::model::ModelSpec;
use crate::model::head::Broken;
use crate::proto::sigmax::{self, Timings};
use crate::scheduler::request::Prediction;
use crate::service::answer_size::fits;
use crate::service::classifier::decision::{Decision, Options};
use crate::service::classifier::wire::wire_dtype;
use crate::service::promise::refused;
use crate::tensor::Tensor;

// Field numbers of ClassifyResponse in proto/sigmax/v1/classifier.proto.
const MODEL_NAME: u32 = 1;
const MODEL_VERSION: u32 = 2;
const ROWS: u32 = 3;
const PROBABILITIES: u32 = 4;
const TIMINGS: u32 = 5;
const HEAD: u32 = 6;
/// The least bytes that a class takes in an answer.
const LEAST_CLASS: usize = 9;
// Field numbers of Classification.
const CLASSES: u32 = 1;
const DECISION: u32 = 2;
// Field numbers of ScoredClass.
const INDEX: u32 = 1;
const LABEL: u32 = 2;
const PROBABILITY: u32 = 3;

/// The encoded ClassifyResponse, after the bytes that the call's answer begins with.
pub fn encode(
    spec: &ModelSpec,
    options: &Options,
    answer: &Prediction,
    call: Call,
) -> Result<BytesMut> {
    let head = &spec.heads[options.head];
    let output = &answer.outputs[head.output];
    let rows = answer.rows;
    let classes =
        head.classes(&output.shape, rows).map_err(|broken| refused(spec, head, broken))?;
    let shown = rows.saturating_mul(classes.min(options.top));
    let tensor = if options.return_probabilities { output.data.len() } else { 0 };
    fits(shown.saturating_mul(LEAST_CLASS).saturating_add(tensor), spec)?;
    let mut reply = BytesMut::with_capacity(call.reply_head.len() + 128 + (shown + rows) * 24);
    reply.put_slice(call.reply_head);
    string::encode(MODEL_NAME, &spec.name, &mut reply);
    string::encode(MODEL_VERSION, &spec.version.to_string(), &mut reply);
    put_rows(spec, options, output, classes, &mut reply)
        .map_err(|broken| refused(spec, head, broken))?;
    if options.return_probabilities {
        let name = &spec.outputs[head.output].name;
        message::encode(PROBABILITIES, &wire_tensor(name, output), &mut reply);
    }
    let timings = Timings {
        queue_ns: nanoseconds(answer.timings.queue),
        compute_ns: nanoseconds(answer.timings.compute()),
        total_ns: nanoseconds(call.arrived.elapsed()),
        batch_rows: answer.timings.batch_rows as u32,
    };
    message::encode(TIMINGS, &timings, &mut reply);
    if !head.name.is_empty() {
        string::encode(HEAD, &head.name, &mut reply);
    }
    Ok(reply)
}

fn put_rows(
    spec: &ModelSpec,
    options: &Options,
    output: &Tensor,
    classes: usize,
    reply: &mut BytesMut,
) -> Result<(), Broken> {
    let head = &spec.heads[options.head];
    let mut decision = Decision::default();
    let size = classes * output.dtype.size();
    for (row, bytes) in output.data.chunks_exact(size).enumerate() {
        decision.decide(head, options, output.dtype, row, bytes)?;
        put_row(&decision, &head.labels, reply);
    }
    Ok(())
}

/// Writes a row's Classification.
fn put_row(decision: &Decision, labels: &[String], reply: &mut BytesMut) {
    let label = |index: usize| labels.get(index).map_or("", String::as_str);
    let classes = decision.top.iter().map(|index| (CLASSES, *index));
    let fields = classes.chain(decision.decided.iter().map(|index| (DECISION, *index)));
    let size = |(field, index)| {
        let size = class_size(index, label(index));
        key_len(field) + encoded_len_varint(size) + size as usize
    };
    encode_key(ROWS, WireType::LengthDelimited, reply);
    encode_varint(fields.clone().map(size).sum::<usize>() as u64, reply);
    for (field, index) in fields {
        let label = label(index);
        encode_key(field, WireType::LengthDelimited, reply);
        encode_varint(class_size(index, label), reply);
        put_class(index, label, decision.probabilities[index], reply);
    }
}

/// The size of a ScoredClass, in bytes.
fn class_size(index: usize, label: &str) -> u64 {
    let label_size = match label.len() as u64 {
        0 => 0,
        len => 1 + encoded_len_varint(len) as u64 + len,
    };
    1 + encoded_len_varint(index as u64) as u64 + label_size + 5
}

fn put_class(index: usize, label: &str, probability: f32, reply: &mut BytesMut) {
    encode_key(INDEX, WireType::Varint, reply);
    encode_varint(index as u64, reply);
    if !label.is_empty() {
        encode_key(LABEL, WireType::LengthDelimited, reply);
        encode_varint(label.len() as u64, reply);
        reply.put_slice(label.as_bytes());
    }
    encode_key(PROBABILITY, WireType::ThirtyTwoBit, reply);
    reply.put_f32_le(probability);
}

fn wire_tensor(name: &str, tensor: &Tensor) -> sigmax::Tensor {
    sigmax::Tensor {
        name: name.to_owned(),
        dtype: wire_dtype(tensor.dtype) as i32,
        shape: tensor.shape.iter().map(|size| *size as i64).collect(),
        data: Some(sigmax::tensor::Data::Raw(tensor.data.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost::Message;

    use super::*;
    use crate::error::Error;
    use crate::metrics::timings::Timings;
    use crate::model::TensorSpec;
    use crate::model::head::{Head, Task};
    use crate::proto::sigmax::{Classification, ClassifyResponse, ScoredClass};
    use crate::tensor::DType;

    fn spec(task: Task, labels: &[&str], thresholds: &[f32]) -> ModelSpec {
        let tensor = |name| TensorSpec::new(name, DType::Fp32, &[-1, -1]);
        ModelSpec {
            name: "model".into(),
            version: 7,
            inputs: vec![tensor("x")],
            outputs: vec![tensor("p")],
            max_batch_size: 8,
            heads: vec![Head {
                name: String::new(),
                output: 0,
                task,
                labels: labels.iter().map(|label| (*label).to_owned()).collect(),
                thresholds: thresholds.to_vec(),
            }],
            ..Default::default()
        }
    }

    fn answer(shape: &[usize], probabilities: &[f32]) -> Prediction {
        let bytes: Vec<u8> = probabilities.iter().flat_map(|p| p.to_le_bytes()).collect();
        let output = Tensor { dtype: DType::Fp32, shape: shape.to_vec(), data: bytes.into() };
        Prediction {
            outputs: vec![output],
            rows: shape[0],
            timings: Timings {
                queue: Duration::from_nanos(5),
                input: Duration::from_nanos(1),
                infer: Duration::from_nanos(2),
                output: Duration::from_nanos(3),
                batch_rows: 9,
            },
        }
    }

    const ALL: Options =
        Options { head: 0, top: usize::MAX, threshold: None, return_probabilities: false };

    /// The response as a client decodes it.
    fn decoded(
        spec: &ModelSpec,
        options: &Options,
        answer: &Prediction,
    ) -> Result<ClassifyResponse> {
        let call = Call::of_stream(b"12345");
        let reply = encode(spec, options, answer, call)?;
        Ok(ClassifyResponse::decode(&reply[5..]).expect("a ClassifyResponse"))
    }

    fn class(index: u32, label: &str, probability: f32) -> ScoredClass {
        ScoredClass { index, label: label.into(), probability }
    }

    fn shown(row: &Classification) -> (Vec<u32>, Vec<u32>) {
        let indices = |classes: &[ScoredClass]| classes.iter().map(|class| class.index).collect();
        (indices(&row.classes), indices(&row.decision))
    }

    #[test]
    fn multiclass_sorts_by_probability_and_decides_the_first() {
        let spec = spec(Task::Multiclass, &["a", "b", "c"], &[]);
        let answer = answer(&[2, 3], &[0.1, 0.7, 0.2, 0.5, 0.0, 0.5]);
        let reply = decoded(&spec, &ALL, &answer).expect("encodes");
        assert_eq!((reply.model_name.as_str(), reply.model_version.as_str()), ("model", "7"));
        let expected = [class(1, "b", 0.7), class(2, "c", 0.2), class(0, "a", 0.1)];
        assert_eq!(reply.rows[0].classes, expected);
        assert_eq!(reply.rows[0].decision, expected[..1]);
        assert_eq!(shown(&reply.rows[1]), (vec![0, 2, 1], vec![0]), "ties by the lower index");
        let timings = reply.timings.expect("timings");
        assert_eq!((timings.queue_ns, timings.compute_ns, timings.batch_rows), (5, 6, 9));
        assert!(reply.probabilities.is_none());
    }

    #[test]
    fn a_minus_zero_ties_with_zero() {
        let row = [-0.0, 0.0, 1.0, -0.0];
        let spec = spec(Task::Multilabel, &["a", "b", "c", "d"], &[0.5; 4]);
        let reply = decoded(&spec, &ALL, &answer(&[1, 4], &row)).expect("encodes");
        assert_eq!(shown(&reply.rows[0]), (vec![2, 0, 1, 3], vec![2]));
        let bits = reply.rows[0].classes.iter().map(|class| class.probability.to_bits());
        assert!(bits.eq([1.0f32, -0.0, 0.0, -0.0].map(f32::to_bits)));
    }

    #[test]
    fn top_cuts_the_classes_and_not_the_decision() {
        let spec = spec(Task::Multilabel, &[], &[0.5; 300]);
        let probabilities: Vec<f32> = (0..300).map(|i| i as f32 / 300.0).collect();
        let options = Options { top: 2, ..ALL };
        let reply = decoded(&spec, &options, &answer(&[1, 300], &probabilities)).expect("encodes");
        let (classes, decision) = shown(&reply.rows[0]);
        assert_eq!((classes, decision), (vec![299, 298], (151..300).collect()));
    }

    #[test]
    fn binary_has_two_classes_and_decides_strictly_over_the_threshold() {
        let spec = spec(Task::Binary, &["no", "yes"], &[0.5]);
        let answer = answer(&[3, 1], &[0.5, 0.75, 0.25]);
        let reply = decoded(&spec, &ALL, &answer).expect("encodes");
        assert_eq!(reply.rows[0].classes, [class(0, "no", 0.5), class(1, "yes", 0.5)]);
        assert_eq!(reply.rows[0].decision, [class(0, "no", 0.5)]);
        assert_eq!(reply.rows[1].classes, [class(1, "yes", 0.75), class(0, "no", 0.25)]);
        assert_eq!(reply.rows[1].decision, [class(1, "yes", 0.75)]);
        let lower = Options { threshold: Some(0.2), ..ALL };
        let reply = decoded(&spec, &lower, &answer).expect("encodes");
        assert_eq!(shown(&reply.rows[2]), (vec![0, 1], vec![1]));
    }

    #[test]
    fn the_output_is_returned_where_asked_for() {
        let spec = spec(Task::Multiclass, &[], &[]);
        let answer = answer(&[1, 2], &[0.25, 0.75]);
        let options = Options { return_probabilities: true, ..ALL };
        let reply = decoded(&spec, &options, &answer).expect("encodes");
        let tensor = reply.probabilities.expect("the tensor");
        assert_eq!((tensor.name.as_str(), &tensor.shape[..]), ("p", &[1, 2][..]));
        assert_eq!(tensor.data, Some(sigmax::tensor::Data::Raw(answer.outputs[0].data.clone())));
    }

    #[test]
    fn a_row_without_a_finite_probability_is_named() {
        let spec = spec(Task::Multiclass, &[], &[]);
        let answer = answer(&[2, 2], &[0.25, 0.75, f32::NAN, 0.5]);
        let error = decoded(&spec, &ALL, &answer).expect_err("refused");
        assert_eq!(error, Error::NotFinite { model: "model".into(), row: 1, input: "x".into() });
    }

    #[test]
    fn an_output_that_is_not_the_task_is_a_fault() {
        let spec = spec(Task::Multiclass, &["a", "b", "c"], &[]);
        let error = decoded(&spec, &ALL, &answer(&[1, 2], &[0.5, 0.5]));
        assert_eq!(error, Err(Error::Fault { model: "model".into() }));
    }
}
