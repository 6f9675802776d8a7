//! The memory that a session reads and writes in place, and the copies to it and from it.

use std::fmt;

use ort::memory::MemoryInfo;

use crate::engine::EngineError;

/// The memory of a device, as one session uses it. Copies and runs take place in the order in which
/// they were begun.
pub(super) trait Memory: Send + fmt::Debug {
    /// A pair of `bytes` on the host and as many on the device, all zero.
    fn pair(&self, bytes: usize) -> Result<Box<dyn Pair>, EngineError>;

    /// Memory of the same device with an order of its own, in which nothing has been begun yet.
    fn anew(&self) -> Result<Box<dyn Memory>, EngineError>;

    /// The address of the stream that keeps the order of copies and runs; 0: there is no stream.
    fn stream(&self) -> usize;

    /// Waits until all copies and runs that have been begun are over.
    fn wait(&self) -> Result<(), EngineError>;

    /// Ends a capture that has failed and was left open, if there is one.
    fn end_capture(&self);

    /// ONNX Runtime's description of this memory.
    fn info(&self) -> ort::Result<MemoryInfo<'static>>;

    /// The free bytes and all bytes of the device; none where they are not known.
    fn room(&self) -> Option<(usize, usize)>;

    /// Checks that the device works. After an error the device answers every call with an error,
    /// for as long as the process lives.
    fn check(&self) -> Result<(), EngineError>;
}

/// A pair of the host's memory and as much of a device's.
pub(super) trait Pair: Send + fmt::Debug {
    /// The host's part: an upload reads it, and a download has written it once it has been waited
    /// for.
    fn host(&mut self) -> &mut [u8];

    /// The address of the device's part.
    fn address(&self) -> usize;

    /// Begins to copy the first `bytes` to the device.
    fn upload(&mut self, bytes: usize) -> Result<(), EngineError>;

    /// Begins to copy the first `bytes` from the device.
    fn download(&mut self, bytes: usize) -> Result<(), EngineError>;
}
