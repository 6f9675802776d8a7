//! The check of a request's tensors against the model, before anything is queued.

use crate::error::{Error, Result};
use crate::grpc::budget::Held;
use crate::model::{ModelSpec, TensorSpec};
use crate::scheduler::request::{Data, Input, ValidRequest};
use crate::tensor::strings;
use crate::tensor::{DType, byte_size};

/// An input as a request gives it.
#[derive(Debug)]
pub struct Given {
    /// The input's name; may be empty where the model has one input.
    pub name: String,
    /// The element type that the request claims; none: the model's own; an error: the text of an
    /// unknown type.
    pub dtype: Option<Result<DType, String>>,
    /// The sizes of the axes that the request claims.
    pub shape: Vec<i64>,
    /// The input's elements.
    pub data: Data,
}

/// Bytes that ONNX Runtime takes for one element of BYTES beside its text: for a string of its own,
/// and for the pointers and the empty strings that a tensor is made from.
const TEXT: usize = 104;

/// Takes room in the budget for what the engine will make of a request's texts beside the bytes
/// that came.
pub fn hold(checked: &ValidRequest, held: &mut Held) -> Result<()> {
    let texts = checked.inputs.iter().flatten().filter(|input| input.dtype == DType::Bytes);
    let texts = texts.map(|input| input.shape.iter().product::<usize>());
    match texts.sum::<usize>() {
        0 => Ok(()),
        count => held.unfold(count.saturating_mul(TEXT)),
    }
}

/// Checks the inputs of a request in every respect, and puts them into the model's order.
pub fn validate(model: &ModelSpec, given: Vec<Given>) -> Result<ValidRequest> {
    let given = in_order(model, given)?;
    let rows = rows(model, &given)?;
    let inputs = model
        .inputs
        .iter()
        .zip(given)
        .map(|(spec, given)| given.map(|given| input(model, spec, given)).transpose())
        .collect::<Result<_>>()?;
    Ok(ValidRequest { inputs, rows })
}

/// The given inputs in the model's order, whatever order they came in; none for an optional input
/// that is left out.
fn in_order(model: &ModelSpec, given: Vec<Given>) -> Result<Vec<Option<Given>>> {
    unique(given.iter().map(|given| &*given.name))
        .map_err(|input| Error::DuplicateInput { input: input.to_owned() })?;
    let required = model.inputs.iter().filter(|spec| !spec.optional).count();
    if given.len() < required || given.len() > model.inputs.len() {
        return Err(missing(model, given.into_iter().map(|given| given.name)));
    }
    let mut slots: Vec<Option<Given>> = model.inputs.iter().map(|_| None).collect();
    for given in given {
        let Some(index) = model.input(&given.name) else {
            return Err(Error::UnexpectedInput {
                model: model.name.clone(),
                input: given.name,
                expected: names(&model.inputs),
            });
        };
        slots[index] = Some(given);
    }
    if slots.iter().zip(&model.inputs).any(|(slot, spec)| slot.is_none() && !spec.optional) {
        return Err(missing(model, slots.into_iter().flatten().map(|given| given.name)));
    }
    Ok(slots)
}

fn missing(model: &ModelSpec, found: impl Iterator<Item = String>) -> Error {
    let required = model.inputs.iter().filter(|spec| !spec.optional);
    let expected: Vec<_> = required.map(|spec| spec.name.clone()).collect();
    Error::MissingInputs {
        model: model.name.clone(),
        optional: model.inputs.len() - expected.len(),
        expected,
        found: found.collect(),
    }
}

/// Checks that no name comes twice; the error is a name that does.
pub fn unique<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Result<(), &'a str> {
    if names.len() < 2 {
        return Ok(());
    }
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map_or(Ok(()), |pair| Err(pair[0]))
}

/// The number of rows that all inputs share; 1 where the model has no batch axis.
fn rows(model: &ModelSpec, given: &[Option<Given>]) -> Result<usize> {
    if model.max_batch_size == 0 {
        return Ok(1);
    }
    let mut rows = None;
    let pairs = model.inputs.iter().zip(given);
    for (spec, given) in pairs.filter_map(|(spec, given)| Some((spec, given.as_ref()?))) {
        let Some(&first) = given.shape.first() else {
            return Err(wrong_shape(model, spec, &given.shape));
        };
        let Ok(found) = usize::try_from(first) else {
            return Err(wrong_shape(model, spec, &given.shape));
        };
        let (_, expected) = *rows.get_or_insert((spec, found));
        if found != expected {
            let (model, input) = (model.name.clone(), spec.name.clone());
            return Err(Error::RowsDiffer { model, input, expected, found });
        }
    }
    // The number itself is checked after its being the same everywhere, as Triton does.
    match rows {
        Some((spec, found)) if found == 0 || found > model.max_batch_size => {
            let (max, input) = (model.max_batch_size, spec.name.clone());
            Err(Error::WrongRows { model: model.name.clone(), input, max, found })
        }
        rows => Ok(rows.map_or(1, |(_, found)| found)),
    }
}

/// One input, checked: its dtype, every dimension, the number of its bytes or strings, and the
/// values that a BOOL may have.
fn input(model: &ModelSpec, spec: &TensorSpec, given: Given) -> Result<Input> {
    let found = match given.dtype {
        None => Ok(spec.dtype),
        Some(dtype) => dtype,
    };
    if found.as_ref() != Ok(&spec.dtype) {
        return Err(Error::WrongDtype {
            model: model.name.clone(),
            input: spec.name.clone(),
            expected: spec.dtype.name(),
            found: found.map_or_else(|text| text, |dtype| dtype.name().to_owned()),
        });
    }
    let shape = given
        .shape
        .iter()
        .map(|&dim| usize::try_from(dim))
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|_| spec.any_rank || fits(&spec.dims, &given.shape))
        .ok_or_else(|| wrong_shape(model, spec, &given.shape))?;
    let size = byte_size(spec.dtype, &shape);
    let expected = size.ok_or_else(|| wrong_shape(model, spec, &given.shape))?;
    let mut data = given.data;
    if spec.dtype != DType::Bytes && data.len() != expected {
        return Err(Error::WrongBytes {
            model: model.name.clone(),
            input: spec.name.clone(),
            expected,
            found: data.len(),
        });
    }
    if matches!(spec.dtype, DType::Bytes | DType::Bool) {
        // Elements are copied from shared memory before the check, so that what is checked is what
        // runs: a client may rewrite its memory in between.
        data = Data::Here(data.bytes()?);
    }
    if let (DType::Bytes, Data::Here(data)) = (spec.dtype, &data) {
        // The expected size of a BYTES tensor is its number of strings.
        strings::check(data, expected).map_err(|fault| Error::WrongStrings {
            model: model.name.clone(),
            input: spec.name.clone(),
            expected,
            fault,
        })?;
    }
    if let (DType::Bool, Data::Here(data)) = (spec.dtype, &data)
        && let Some(index) = data.iter().position(|&byte| byte > 1)
    {
        return Err(Error::BadElement {
            model: model.name.clone(),
            input: spec.name.clone(),
            detail: format!("element {index}: expected a BOOL of 0 or 1, got {}", data[index]),
        });
    }
    Ok(Input { dtype: spec.dtype, shape, data })
}

/// Whether a shape is one that the dims describe; a dim of -1 describes any size.
fn fits(dims: &[i64], shape: &[i64]) -> bool {
    dims.len() == shape.len() && dims.iter().zip(shape).all(|(dim, size)| *dim == -1 || dim == size)
}

fn wrong_shape(model: &ModelSpec, spec: &TensorSpec, found: &[i64]) -> Error {
    Error::WrongShape {
        model: model.name.clone(),
        input: spec.name.clone(),
        expected: spec.dims.clone(),
        found: found.to_vec(),
        batched: model.max_batch_size > 0,
    }
}

/// The names of a model's tensors.
pub fn names(specs: &[TensorSpec]) -> Vec<String> {
    specs.iter().map(|spec| spec.name.clone()).collect()
}
