//! `inference.GRPCInferenceService`, the Open Inference Protocol with Triton's extensions.

pub mod classification;
pub mod contents;
pub mod infer;
pub mod inputs;
pub mod logging;
pub mod outputs;
pub mod parameters;
pub mod reply;
pub mod repository;
pub mod service;
pub mod shared_memory;
pub mod statistics;
