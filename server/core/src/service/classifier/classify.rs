//! `sigmax.v1.ClassifierService/Classify`: decode, check, run, decide, encode.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::grpc::budget::Held;
use crate::grpc::message::{READ, beside};
use crate::grpc::{Call, PREFIX};
use crate::model::{ModelSpec, Task, TensorSpec};
use crate::proto::sigmax::{self, ClassifyRequest, tensor::Data};
use crate::scheduler::request;
use crate::scheduler::served_model::{Served, Wish};
use crate::service::classifier::reply;
use crate::service::dtype_of_wire;
use crate::service::validate::{Checked, Given, check};
use crate::shard::{Shard, Trace};
use crate::tensor::strings;
use crate::tensor::{DType, byte_size};

/// The call's path.
pub const PATH: &str = "/sigmax.v1.ClassifierService/Classify";

/// How a request wants its rows decided and shown.
#[derive(Debug)]
pub struct Options {
    /// What the model's output means.
    pub task: Task,
    /// Classes a row; at least 1.
    pub top: usize,
    /// Replaces the model's own.
    pub threshold: Option<f32>,
    /// Whether the output tensor is wanted as well.
    pub return_probabilities: bool,
}

/// Answers a unary call.
pub async fn answer(
    shard: &Shard,
    request: ClassifyRequest,
    call: Call,
    held: &mut Held,
    trace: &Trace,
) -> Result<BytesMut> {
    let (served, options, checked) = prepare(shard, request, held, trace).await?;
    let answer = served.run(checked, wish(call)).await?;
    trace.ran(&answer);
    reply::encode(&served.model.spec, &options, &answer, call, PREFIX)
}

/// Answers one request of a stream, by an encoded ClassifyResponse without a prefix.
pub async fn answer_one(
    shard: &Shard,
    request: ClassifyRequest,
    call: Call,
    held: &mut Held,
    trace: &Trace,
) -> Result<BytesMut> {
    let (served, options, checked) = prepare(shard, request, held, trace).await?;
    let answer = served.run(checked, wish(call)).await?;
    trace.ran(&answer);
    reply::encode(&served.model.spec, &options, &answer, call, 0)
}

fn wish(call: Call) -> Wish {
    Wish { ready: Some(call.ready), deadline: call.deadline, ..Default::default() }
}

/// Finds the model and holds the request against it.
async fn prepare(
    shard: &Shard,
    request: ClassifyRequest,
    held: &mut Held,
    trace: &Trace,
) -> Result<(Rc<Served>, Options, Checked)> {
    let served = shard.find(&request.model_name, &request.model_version, trace)?;
    let spec = &served.model.spec;
    let options = options(spec, &request)?;
    let inputs = request.inputs;
    let checked = if inputs.iter().map(work).sum::<usize>() <= READ {
        checked(spec, inputs)?
    } else {
        let model = served.model.clone();
        Box::pin(beside(move || checked(&model.spec, inputs))).await?
    };
    checked.hold(held)?;
    Ok((served, options, checked))
}

fn checked(spec: &ModelSpec, inputs: Vec<sigmax::Tensor>) -> Result<Checked> {
    let given = inputs.into_iter().map(given).collect();
    check(spec, given, |input, data| elements(spec, input, data).map(request::Data::Here))
}

/// What is read of an input one by one, in bytes of memory; of a raw one much less is.
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

/// The request's options, where the model is one that classifies.
fn options(spec: &ModelSpec, request: &ClassifyRequest) -> Result<Options> {
    let not_applicable =
        |detail: &str| Error::NotApplicable { model: spec.name.clone(), detail: detail.into() };
    let task = spec.task.ok_or_else(|| {
        not_applicable("declares no task, so its output is no classification; use ModelInfer")
    })?;
    if spec.max_batch_size == 0 {
        return Err(not_applicable("has no batch axis, so it has no rows; use ModelInfer"));
    }
    if let Some(threshold) = request.threshold {
        if task == Task::Multiclass {
            let detail = "expected none for a multi-class model, whose most probable class decides";
            return Err(Error::BadField { field: "threshold", detail: detail.into() });
        }
        if !(0.0..=1.0).contains(&threshold) {
            let detail = format!("expected a number from 0 to 1, got {threshold}");
            return Err(Error::BadField { field: "threshold", detail });
        }
    }
    Ok(Options {
        task,
        top: match request.top_k {
            0 => usize::MAX,
            top => top as usize,
        },
        threshold: request.threshold,
        return_probabilities: request.return_probabilities,
    })
}

fn given(tensor: sigmax::Tensor) -> Given<Option<Data>> {
    let sigmax::Tensor { name, dtype, shape, data } = tensor;
    Given { name, dtype: dtype_of_wire(dtype), shape, data }
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

/// Numbers as bytes of the dtype, or what is wrong with them.
fn from_values(dtype: DType, values: sigmax::Values) -> Result<Bytes, String> {
    let lists = [
        ("floats", values.floats.len()),
        ("doubles", values.doubles.len()),
        ("ints", values.ints.len()),
        ("uints", values.uints.len()),
        ("bools", values.bools.len()),
        ("strings", values.strings.len()),
    ];
    let fitting = match dtype {
        DType::Fp32 | DType::Fp16 | DType::Bf16 => "floats",
        DType::Fp64 => "doubles",
        DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64 => "ints",
        DType::Uint8 | DType::Uint16 | DType::Uint32 | DType::Uint64 => "uints",
        DType::Bool => "bools",
        DType::Bytes => "strings",
    };
    if let Some((list, _)) = lists.iter().find(|(list, len)| *len > 0 && *list != fitting) {
        return Err(format!("expected values.{fitting} for {}, got values.{list}", dtype.name()));
    }
    let count = lists.iter().map(|(_, len)| len).sum();
    let mut bytes = BytesMut::with_capacity(byte_size(dtype, &[count]).unwrap_or(0));
    match dtype {
        DType::Fp32 => values.floats.iter().for_each(|value| bytes.put_f32_le(*value)),
        DType::Fp16 => {
            values
                .floats
                .iter()
                .for_each(|value| bytes.put_slice(&f16::from_f32(*value).to_le_bytes()));
        }
        DType::Bf16 => {
            values
                .floats
                .iter()
                .for_each(|value| bytes.put_slice(&bf16::from_f32(*value).to_le_bytes()));
        }
        DType::Fp64 => values.doubles.iter().for_each(|value| bytes.put_f64_le(*value)),
        DType::Bool => values.bools.iter().for_each(|value| bytes.put_u8(u8::from(*value))),
        DType::Bytes => bytes = strings::tensor_of(&values.strings),
        DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64 => {
            let bits = 8 * dtype.size() as u32;
            let (least, most) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
            put_integers(&mut bytes, dtype, &values.ints, least, most)?;
        }
        DType::Uint8 | DType::Uint16 | DType::Uint32 | DType::Uint64 => {
            let most = u64::MAX >> (64 - 8 * dtype.size() as u32);
            put_integers(&mut bytes, dtype, &values.uints, 0, most)?;
        }
    }
    Ok(bytes.freeze())
}

/// The low bytes of every integer, after a check that they hold all of it.
fn put_integers<T: Copy + PartialOrd + std::fmt::Display + LowBytes>(
    bytes: &mut BytesMut,
    dtype: DType,
    values: &[T],
    least: T,
    most: T,
) -> Result<(), String> {
    for (index, &value) in values.iter().enumerate() {
        if value < least || value > most {
            return Err(format!(
                "element {index}: expected {} from {least} to {most}, got {value}",
                dtype.name()
            ));
        }
        bytes.put_slice(&value.low_bytes()[..dtype.size()]);
    }
    Ok(())
}

/// An integer whose little-endian bytes begin with those of any narrower type that holds it.
trait LowBytes {
    fn low_bytes(self) -> [u8; 8];
}

impl LowBytes for i64 {
    fn low_bytes(self) -> [u8; 8] {
        self.to_le_bytes()
    }
}

impl LowBytes for u64 {
    fn low_bytes(self) -> [u8; 8] {
        self.to_le_bytes()
    }
}
