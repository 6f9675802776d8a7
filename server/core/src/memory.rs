//! The bound on what unfinished messages may hold, over all connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::error::{Error, Result};

/// Bytes that have come but make no whole message yet.
#[derive(Debug)]
pub struct Memory {
    used: AtomicUsize,
    limit: usize,
}

impl Memory {
    /// Room for so many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit })
    }

    /// A share of it, of no bytes yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { memory: self.clone(), bytes: 0 }
    }
}

/// What one message holds; given back when dropped.
#[derive(Debug)]
pub struct Share {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Share {
    /// Holds so many more bytes.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        let limit = self.memory.limit;
        if self.memory.used.fetch_add(bytes, Relaxed) + bytes > limit {
            return Err(Error::NoMemory { limit });
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Relaxed);
    }
}
