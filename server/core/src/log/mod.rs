//! The log: which messages are logged, which LogSettings changes while the server runs, and how
//! they are written.

mod output;
mod repeats;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::Level;

pub use output::{Output, STDERR, STDOUT, Source};
pub use repeats::{SPAN, is_one_too_many, tell_repeats};

/// The levels of messages that are logged, by Triton's names for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Whether errors are logged.
    pub error: bool,
    /// Whether warnings are logged.
    pub warning: bool,
    /// Whether other news is logged.
    pub info: bool,
    /// The verbosity; 0: no details are logged; 1: details; 2 and more: every step.
    pub verbose: u32,
}

/// The levels in force. They are global, for the log is the process's.
static LEVELS: Mutex<Levels> =
    Mutex::new(Levels { error: true, warning: true, info: false, verbose: 0 });

fn lock() -> MutexGuard<'static, Levels> {
    LEVELS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Levels {
    /// The levels in force.
    pub fn current() -> Self {
        *lock()
    }

    /// Levels by which `level` and those above it are logged; none: nothing is logged.
    pub fn from(level: Option<Level>) -> Self {
        let is_on = |least| level.is_some_and(|level| level >= least);
        Self {
            error: is_on(Level::ERROR),
            warning: is_on(Level::WARN),
            info: is_on(Level::INFO),
            verbose: u32::from(is_on(Level::DEBUG)) + u32::from(is_on(Level::TRACE)),
        }
    }

    /// Puts these levels into force.
    pub fn apply(self) {
        *lock() = self;
        // Every log statement caches whether its level is logged, and must look again.
        tracing::callsite::rebuild_interest_cache();
    }

    /// Whether messages of this level are logged.
    pub fn has(self, level: Level) -> bool {
        match level {
            Level::ERROR => self.error,
            Level::WARN => self.warning,
            Level::INFO => self.info,
            Level::DEBUG => self.verbose >= 1,
            Level::TRACE => self.verbose >= 2,
        }
    }
}
