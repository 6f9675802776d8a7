//! How a request has ended, as the counters tell it.

use tonic::Code;

use crate::error::{Dialect, Error};

/// Why a request is not run though it is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its model's queue has no room.
    QueueFull,
    /// It could not be answered in time.
    TooLate,
    /// Its deadline has passed.
    DeadlineExceeded,
    /// It has waited for too long.
    QueueTimeout,
    /// There is no room for its message.
    NoMemory,
    /// Its client has given it up.
    Cancelled,
}

impl Refusal {
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::QueueFull, "queue_full"),
        (Self::TooLate, "too_late"),
        (Self::DeadlineExceeded, "deadline_exceeded"),
        (Self::QueueTimeout, "queue_timeout"),
        (Self::NoMemory, "no_memory"),
        (Self::Cancelled, "cancelled"),
    ];

    /// Of an error, if it is one.
    pub fn of(error: &Error) -> Option<Self> {
        Some(match error.itself() {
            Error::QueueFull { .. } => Self::QueueFull,
            Error::TooLate { .. } => Self::TooLate,
            Error::DeadlineExceeded => Self::DeadlineExceeded,
            Error::QueueTimeout => Self::QueueTimeout,
            Error::NoMemory { .. } => Self::NoMemory,
            _ => return None,
        })
    }
}

/// How a request has ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The status code.
    pub code: Code,
    /// Why it was not run.
    pub refusal: Option<Refusal>,
}

impl Outcome {
    /// It is answered.
    pub const OK: Self = Self { code: Code::Ok, refusal: None };

    /// It is not.
    pub fn of(error: &Error, dialect: Dialect) -> Self {
        Self { code: error.code(dialect), refusal: Refusal::of(error) }
    }
}
