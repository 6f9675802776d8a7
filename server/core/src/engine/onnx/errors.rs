//! The meaning of ONNX Runtime's errors.

use crate::engine::EngineError;
use crate::engine::onnx::said::brief;

/// The error that ONNX Runtime's error stands for. A kernel that does not take its values refuses
/// the request; an error of CUDA or its libraries is the device's; every other error is a fault of
/// ours.
pub fn run_error(error: &ort::Error) -> EngineError {
    let text = error.message();
    // A division by zero is known by its text, for it has no code of its own.
    let refused = error.code() == ort::ErrorCode::InvalidArgument
        || text.contains("Integer division by zero")
        || text.contains("Integer modulo by zero");
    // Texts of a failed device are "CUDA failure 700: an illegal memory access was encountered ;
    // GPU=0 ; hostname=...", the same with CUBLAS or CUDNN, and "CUDA error
    // cudaErrorIllegalAddress:an illegal memory access ...". A device that only lacks memory loses
    // nothing that it holds.
    let is_cudas =
        (text.contains(" failure ") && text.contains("; GPU=")) || text.contains("CUDA error cuda");
    let lost = is_cudas && !text.contains("out of memory");
    let told = brief(text);
    match (refused, lost) {
        (_, true) => EngineError::Device(told),
        (true, _) => EngineError::Refused(told),
        _ => EngineError::Fault(told),
    }
}
