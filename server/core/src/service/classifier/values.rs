//! Typed values of a ClassifyRequest, as the bytes of the dtype that they are for.

use bytes::{BufMut, Bytes, BytesMut};
use half::{bf16, f16};

use crate::proto::sigmax;
use crate::tensor::{DType, byte_size, strings};

/// The values as bytes of the dtype; the error says what is wrong with them.
pub fn from_values(dtype: DType, values: sigmax::Values) -> Result<Bytes, String> {
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

/// Appends the low bytes of every integer, after a check that they hold its whole value.
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
