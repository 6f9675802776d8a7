//! Types of tensor elements, as `sigmax.v1` numbers them.

use crate::proto::sigmax;
use crate::tensor::DType;

/// The DataType by which a dtype is named on the wire.
pub fn wire_dtype(dtype: DType) -> sigmax::DataType {
    match dtype {
        DType::Bool => sigmax::DataType::Bool,
        DType::Uint8 => sigmax::DataType::Uint8,
        DType::Uint16 => sigmax::DataType::Uint16,
        DType::Uint32 => sigmax::DataType::Uint32,
        DType::Uint64 => sigmax::DataType::Uint64,
        DType::Int8 => sigmax::DataType::Int8,
        DType::Int16 => sigmax::DataType::Int16,
        DType::Int32 => sigmax::DataType::Int32,
        DType::Int64 => sigmax::DataType::Int64,
        DType::Fp16 => sigmax::DataType::Fp16,
        DType::Bf16 => sigmax::DataType::Bf16,
        DType::Fp32 => sigmax::DataType::Fp32,
        DType::Fp64 => sigmax::DataType::Fp64,
        DType::Bytes => sigmax::DataType::Bytes,
    }
}

/// The dtype of a DataType's number; none where that is 0, which is unspecified; an error with the
/// number where it is unknown.
pub fn dtype_of_wire(number: i32) -> Option<Result<DType, String>> {
    if number == 0 {
        return None;
    }
    let dtype = DType::ALL.into_iter().find(|dtype| wire_dtype(*dtype) as i32 == number);
    Some(dtype.ok_or_else(|| format!("the unknown DataType {number}")))
}
