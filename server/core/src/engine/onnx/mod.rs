//! Engines that run on ONNX Runtime. This is the only folder that names `ort`.

mod binding;
mod buckets;
mod content;
mod cuda;
mod division;
mod errors;
mod extent;
pub mod file;
mod graph;
mod heap;
mod memory;
mod outside;
mod ranks;
pub mod runtime;
mod said;
mod session;
#[cfg(test)]
mod tests;
pub mod trial;
mod value;
mod weights;
