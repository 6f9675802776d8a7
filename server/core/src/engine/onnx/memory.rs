//! Memory that a session reads and writes in place, and the copies to it and from it.

use std::fmt;

use ort::memory::MemoryInfo;

use crate::engine::EngineError;

/// The memory of a device, as one session uses it. Copies and runs take place in the order in which
/// they were begun.
pub(super) trait Memory: Send + fmt::Debug {
    /// Memory of so many bytes on the host, and as much on the device, all zero.
    fn pair(&self, bytes: usize) -> Result<Box<dyn Pair>, EngineError>;

    /// Memory of the same device, in whose order there is nothing yet.
    fn anew(&self) -> Result<Box<dyn Memory>, EngineError>;

    /// What the order is kept by: a stream's address, or 0.
    fn stream(&self) -> usize;

    /// Waits until everything that has been begun is over.
    fn wait(&self) -> Result<(), EngineError>;

    /// Ends a capture that has failed and was left open, if there is one.
    fn end_capture(&self);

    /// What ONNX Runtime calls it.
    fn info(&self) -> ort::Result<MemoryInfo<'static>>;

    /// How many bytes are free, and how many there are; nothing where that is not known.
    fn room(&self) -> Option<(usize, usize)>;

    /// An error where the device answers everything with one, for as long as the process lives.
    fn check(&self) -> Result<(), EngineError>;
}

/// Memory of the host, with as much of a device's.
pub(super) trait Pair: Send + fmt::Debug {
    /// What a copy takes from here, or has put here once it has been waited for.
    fn host(&mut self) -> &mut [u8];

    /// Where the device's part begins.
    fn address(&self) -> usize;

    /// Begins to copy the first bytes to the device.
    fn upload(&mut self, bytes: usize) -> Result<(), EngineError>;

    /// Begins to copy the first bytes from the device.
    fn download(&mut self, bytes: usize) -> Result<(), EngineError>;
}
