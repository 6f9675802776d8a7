//! The outcome of a request, as the counters tell it.

use tonic::Code;

use crate::error::{Dialect, Error};

/// The reason why a request that is right is not run, or its answer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The model's queue has no room.
    QueueFull,
    /// The answer would come after the deadline.
    TooLate,
    /// The deadline has passed.
    DeadlineExceeded,
    /// The request has waited longer than the queue's policy allows.
    QueueTimeout,
    /// The memory budget has no room for the message.
    NoMemory,
    /// The client has given the request up.
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

    /// The refusal that an error stands for; none where the error is no refusal.
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

/// The outcome of a request.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The status code.
    pub code: Code,
    /// The reason why the request was not run; none where it was run or was not right.
    pub refusal: Option<Refusal>,
}

impl Outcome {
    /// The outcome of an answered request.
    pub const OK: Self = Self { code: Code::Ok, refusal: None };

    /// The outcome of a request that has failed with this error.
    pub fn of(error: &Error, dialect: Dialect) -> Self {
        Self { code: error.code(dialect), refusal: Refusal::of(error) }
    }
}
