//! Counters, which one thread writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only one thread may do so, and therefore no locked instruction is needed.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A histogram: how many values fell between the bounds, and the sum of all values.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    pub bounds: &'static [u64; N],
    pub counts: [Counter; N],
    pub over: Counter,
    pub sum: Counter,
}

impl<const N: usize> Histogram<N> {
    pub fn new(bounds: &'static [u64; N]) -> Self {
        let counts = std::array::from_fn(|_| Counter::default());
        Self { bounds, counts, over: Counter::default(), sum: Counter::default() }
    }

    pub fn record(&self, value: u64) {
        let slot = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(slot).unwrap_or(&self.over).add(1);
        self.sum.add(value);
    }
}

/// A clock that counts events and their time in all.
#[derive(Debug, Default)]
pub struct Clock {
    pub count: Counter,
    pub nanoseconds: Counter,
}

impl Clock {
    pub fn record(&self, nanoseconds: u64) {
        self.count.add(1);
        self.nanoseconds.add(nanoseconds);
    }
}
