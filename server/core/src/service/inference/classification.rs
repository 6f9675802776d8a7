//! Triton's classification extension: an output as its highest values with their classes.

use std::cmp::Ordering;

use bytes::BytesMut;

use crate::error::Result;
use crate::model::ModelSpec;
use crate::model::head::Task;
use crate::service::inference::parameters::bad;
use crate::tensor::strings;
use crate::tensor::{DType, Tensor};

/// The most elements of an output that is classified.
const MOST_ELEMENTS: usize = 1_000_000;

/// The highest values of each row as `value:index` or `value:index:label`, falling; equal values by
/// rising index, NaN last. Without a batch axis the whole tensor is one row.
///
/// The result is a BYTES tensor of shape [rows, classes], or [classes] without a batch axis, where
/// classes is at most `count`.
pub fn classes(spec: &ModelSpec, output: usize, tensor: &Tensor, count: usize) -> Result<Tensor> {
    let elements: usize = tensor.shape.iter().product();
    if elements > MOST_ELEMENTS {
        return Err(bad(format!(
            "classification output tensor too large: expected at most {MOST_ELEMENTS} elements, got {elements}"
        )));
    }
    let batched = spec.max_batch_size > 0;
    let rows = if batched { tensor.shape[0] } else { 1 };
    let row_elements = elements / rows.max(1);
    let values = Values::of(tensor)?;
    let top = count.min(row_elements);
    let mut data = BytesMut::new();
    for row in 0..rows {
        let first = row * row_elements;
        let mut order: Vec<_> = (0..row_elements).collect();
        order.sort_by(|a, b| values.falling(first + a, first + b));
        for class in order.into_iter().take(top) {
            let mut text = format!("{}:{class}", values.text(first + class));
            if let Some(label) = label(spec, output, row_elements, class) {
                text.push(':');
                text.push_str(label);
            }
            strings::put(text.as_bytes(), &mut data);
        }
    }
    let shape = if batched { vec![rows, top] } else { vec![top] };
    Ok(Tensor { dtype: DType::Bytes, shape, data: data.freeze() })
}

/// The label of a class; none where the output has no label for it. The one probability of a binary
/// model is that of class 1.
fn label(spec: &ModelSpec, output: usize, classes: usize, class: usize) -> Option<&str> {
    let head = spec.heads.iter().find(|head| head.output == output);
    let class = match head.map(|head| head.task) {
        Some(Task::Binary) if classes == 1 => 1,
        _ => class,
    };
    spec.outputs[output].labels.get(class).map(String::as_str)
}

/// The elements of an output, widened without loss.
enum Values {
    Floats(Vec<f64>),
    Integers(Vec<i128>),
}

impl Values {
    fn of(tensor: &Tensor) -> Result<Self> {
        let floats = |read: fn(&[u8]) -> f64| Self::Floats(tensor.elements().map(read).collect());
        let integers =
            |read: fn(&[u8]) -> i128| Self::Integers(tensor.elements().map(read).collect());
        Ok(match tensor.dtype {
            DType::Fp32 => floats(|bytes| bytemuck::pod_read_unaligned::<f32>(bytes).into()),
            DType::Fp64 => floats(bytemuck::pod_read_unaligned),
            DType::Int8 => integers(|bytes| bytemuck::pod_read_unaligned::<i8>(bytes).into()),
            DType::Int16 => integers(|bytes| bytemuck::pod_read_unaligned::<i16>(bytes).into()),
            DType::Int32 => integers(|bytes| bytemuck::pod_read_unaligned::<i32>(bytes).into()),
            DType::Int64 => integers(|bytes| bytemuck::pod_read_unaligned::<i64>(bytes).into()),
            DType::Uint8 => integers(|bytes| bytemuck::pod_read_unaligned::<u8>(bytes).into()),
            DType::Uint16 => integers(|bytes| bytemuck::pod_read_unaligned::<u16>(bytes).into()),
            DType::Uint32 => integers(|bytes| bytemuck::pod_read_unaligned::<u32>(bytes).into()),
            DType::Uint64 => integers(|bytes| bytemuck::pod_read_unaligned::<u64>(bytes).into()),
            DType::Bool | DType::Fp16 | DType::Bf16 | DType::Bytes => {
                return Err(bad(format!(
                    "class result not available for output due to unsupported type '{}'",
                    tensor.dtype.name()
                )));
            }
        })
    }

    fn falling(&self, a: usize, b: usize) -> Ordering {
        match self {
            Self::Integers(values) => values[b].cmp(&values[a]),
            Self::Floats(values) => {
                let (a, b) = (values[a], values[b]);
                b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
        }
    }

    /// The value as C++'s `std::to_string` writes it.
    fn text(&self, index: usize) -> String {
        match self {
            Self::Integers(values) => values[index].to_string(),
            Self::Floats(values) => format!("{:.6}", values[index]).to_lowercase(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::TensorSpec;

    fn spec(max_batch_size: usize, labels: &[&str]) -> ModelSpec {
        ModelSpec {
            name: "model".into(),
            version: 1,
            inputs: vec![],
            outputs: vec![TensorSpec {
                labels: labels.iter().map(|label| (*label).to_owned()).collect(),
                ..TensorSpec::new("y", DType::Fp32, &[-1, -1])
            }],
            max_batch_size,
            ..Default::default()
        }
    }

    fn tensor(dtype: DType, shape: &[usize], data: &[u8]) -> Tensor {
        Tensor { dtype, shape: shape.to_vec(), data: Bytes::copy_from_slice(data) }
    }

    fn texts(classes: &Tensor) -> Vec<String> {
        classes.elements().map(|text| String::from_utf8(text.to_vec()).expect("text")).collect()
    }

    #[test]
    fn each_row_has_its_highest_values_with_labels() {
        let values: [f32; 6] = [0.5, f32::NAN, 1.0, 7.0, 7.0, f32::NEG_INFINITY];
        let tensor = tensor(DType::Fp32, &[2, 3], bytemuck::cast_slice(&values));
        let classes = classes(&spec(8, &["a", "b"]), 0, &tensor, 2).expect("classes");
        assert_eq!((classes.dtype, &classes.shape[..]), (DType::Bytes, &[2, 2][..]));
        let expected = ["1.000000:2", "0.500000:0:a", "7.000000:0:a", "7.000000:1:b"];
        assert_eq!(texts(&classes), expected);
    }

    #[test]
    fn without_a_batch_axis_the_whole_tensor_is_one_row() {
        let values: [u64; 4] = [3, u64::MAX, 0, 4];
        let tensor = tensor(DType::Uint64, &[2, 2], bytemuck::cast_slice(&values));
        let classes = classes(&spec(0, &[]), 0, &tensor, 9).expect("classes");
        assert_eq!(classes.shape, [4]);
        assert_eq!(texts(&classes), ["18446744073709551615:1", "4:3", "3:0", "0:2"]);
    }

    #[test]
    fn what_has_no_order_is_refused() {
        for dtype in [DType::Bool, DType::Fp16, DType::Bf16, DType::Bytes] {
            let error = classes(&spec(8, &[]), 0, &tensor(dtype, &[1, 0], &[]), 1);
            let error = error.expect_err("refused").to_string();
            assert!(error.contains(&format!("unsupported type '{}'", dtype.name())), "{error}");
        }
    }
}
