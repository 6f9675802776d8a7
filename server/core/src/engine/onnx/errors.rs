//! What ONNX Runtime's errors mean.

use crate::engine::EngineError;
use crate::engine::onnx::said::brief;

/// What a kernel says of values that it does not take is the caller's; what CUDA and its libraries
/// say is the device's; all else is ours.
pub fn run_error(error: &ort::Error) -> EngineError {
    let text = error.message();
    // A division by zero carries no code of its own.
    let refused = error.code() == ort::ErrorCode::InvalidArgument
        || text.contains("Integer division by zero")
        || text.contains("Integer modulo by zero");
    // "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=...", and the
    // same of CUBLAS, CUDNN, ...; "CUDA error cudaErrorIllegalAddress:an illegal memory access ...".
    // Too little memory is no end of what there is.
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
