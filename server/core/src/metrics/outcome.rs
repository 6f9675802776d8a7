//! How a request has ended, as the counters tell it.

use tonic::Code;

use crate::error::{Dialect, Error};

/// Why a request is not run though it is right.
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

/// How a request has ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The status code.
    pub code: Code,
    /// Why it was not run.
    pub refusal: Option<Refusal>,
}

impl Outcome {
    /// The request is answered.
    pub const OK: Self = Self { code: Code::Ok, refusal: None };

    /// The request has failed with this error.
    pub fn of(error: &Error, dialect: Dialect) -> Self {
        Self { code: error.code(dialect), refusal: Refusal::of(error) }
    }
}
