//! The difference of two elements, and how much of it is rounding.

use half::{bf16, f16};

use crate::tensor::DType;

/// The difference of two elements. It is infinite between different elements of which one is a NaN,
/// an infinity or no float.
pub fn difference(dtype: DType, one: &[u8], other: &[u8]) -> f64 {
    if one == other {
        return 0.0;
    }
    match (float(dtype, one), float(dtype, other)) {
        (Some(a), Some(b)) if a == b || (a.is_nan() && b.is_nan()) => 0.0,
        (Some(a), Some(b)) if a.is_finite() && b.is_finite() => (a - b).abs(),
        _ => f64::INFINITY,
    }
}

/// The difference that an element may have from the expected one: absolute up to 1, and relative
/// above. It is at least two roundings of the type's own precision, for FP16 and BF16 round every
/// step of a network more coarsely than any tolerance.
pub fn allowed(dtype: DType, expected: &[u8], tolerance: f64) -> f64 {
    let size = float(dtype, expected).map_or(1.0, f64::abs);
    let precision = match dtype {
        DType::Fp16 => 2.0 / f64::from(1 << 10),
        DType::Bf16 => 2.0 / f64::from(1 << 7),
        _ => 0.0,
    };
    tolerance.max(precision) * if size.is_finite() { size.max(1.0) } else { 1.0 }
}

/// The value of an element of a floating-point type; none for other types.
pub fn float(dtype: DType, element: &[u8]) -> Option<f64> {
    Some(match dtype {
        DType::Fp16 => bytemuck::pod_read_unaligned::<f16>(element).to_f64(),
        DType::Bf16 => bytemuck::pod_read_unaligned::<bf16>(element).to_f64(),
        DType::Fp32 => bytemuck::pod_read_unaligned::<f32>(element).into(),
        DType::Fp64 => bytemuck::pod_read_unaligned(element),
        _ => return None,
    })
}
