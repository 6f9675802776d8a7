//! The gRPC statuses of errors.

use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::{Dialect, Error};

/// Time after which a client is to try again whose message found no room among those under way:
/// they come and go quickly.
const MEMORY_RETRY: Duration = Duration::from_millis(100);

/// The most bytes of a status's text. Clients take headers of 8 KiB by default, and a text is in
/// them up to four times: once percent-encoded, and in the details as message, field and
/// description, all as base64.
const MOST_TEXT: usize = 900;

/// The trailer that tells clients when to try again, in milliseconds; below 0: not at all. The retries
/// of gRPC's own libraries obey it (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The advice on another try that goes with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// Another try may succeed after this time.
    After(Duration),
    /// Another try of the same request would fail, too, though its code looks like one that passes.
    Never,
    /// The server does not know when another try would succeed, or the code says enough.
    Unknown,
}

impl Retry {
    /// The value of the trailer; none where there is none to send.
    fn pushback(self) -> Option<i64> {
        match self {
            // A fraction of a millisecond counts as a whole one: the time is not over before.
            Self::After(time) => i64::try_from(time.as_micros().div_ceil(1000)).ok(),
            Self::Never => Some(-1),
            Self::Unknown => None,
        }
    }
}

/// The text, cut so that it fits into headers.
fn shortened(mut text: String) -> String {
    if text.len() > MOST_TEXT {
        text.truncate(text.floor_char_boundary(MOST_TEXT));
        text.push_str(" ...");
    }
    text
}

impl Error {
    /// The error as a gRPC status with its details.
    pub fn status(&self, dialect: Dialect) -> Status {
        let mut details = ErrorDetails::with_error_info(self.reason(), "sigmax", []);
        if let Some(field) = self.field() {
            details.add_bad_request_violation(
                shortened(field),
                shortened(self.message(Dialect::Sigmax)),
            );
        }
        let retry = self.retry(dialect);
        if let Retry::After(time) = retry {
            details.set_retry_info(Some(time));
        }
        let message = shortened(self.message(dialect));
        let mut status = Status::with_error_details(self.code(dialect), message, details);
        if let Some(milliseconds) = retry.pushback() {
            status.metadata_mut().insert(PUSHBACK, MetadataValue::from(milliseconds));
        }
        status
    }

    /// The advice on another try that goes with the error.
    fn retry(&self, dialect: Dialect) -> Retry {
        match self.itself() {
            Self::QueueFull { retry_after, .. } => Retry::After(*retry_after),
            Self::NoMemory { .. } => Retry::After(MEMORY_RETRY),
            Self::NotReady { lasts: true, .. } => Retry::Never,
            Self::NotReady { .. } | Self::QueueTimeout | Self::Draining => Retry::Unknown,
            Self::TooManyStreams { .. } => Retry::Unknown,
            error => match error.code(dialect) {
                // Clients take these codes for what passes.
                Code::ResourceExhausted | Code::Unavailable => Retry::Never,
                _ => Retry::Unknown,
            },
        }
    }

    /// The status table: the code of each error, and its reason for programs, which is the same in
    /// every language and release.
    fn entry(&self) -> (Code, &'static str) {
        match self {
            Self::Unauthenticated(reason) => (Code::Unauthenticated, reason.name()),
            Self::PermissionDenied { .. } => (Code::PermissionDenied, "NOT_ALLOWED"),
            Self::UnknownModel { .. } => (Code::NotFound, "UNKNOWN_MODEL"),
            Self::UnknownVersion { .. } => (Code::NotFound, "UNKNOWN_VERSION"),
            Self::BadVersion { .. } => (Code::InvalidArgument, "BAD_VERSION"),
            Self::NotReady { .. } => (Code::Unavailable, "MODEL_NOT_READY"),
            Self::MissingInputs { .. } => (Code::InvalidArgument, "MISSING_INPUT"),
            Self::UnexpectedInput { .. } => (Code::InvalidArgument, "UNEXPECTED_INPUT"),
            Self::DuplicateInput { .. } => (Code::InvalidArgument, "DUPLICATE_INPUT"),
            Self::UnexpectedOutput { .. } => (Code::InvalidArgument, "UNEXPECTED_OUTPUT"),
            Self::DuplicateOutput { .. } => (Code::InvalidArgument, "DUPLICATE_OUTPUT"),
            Self::WrongDtype { .. } => (Code::InvalidArgument, "DTYPE_MISMATCH"),
            Self::WrongShape { .. } => (Code::InvalidArgument, "SHAPE_MISMATCH"),
            Self::WrongRows { .. } => (Code::InvalidArgument, "BATCH_SIZE"),
            Self::RowsDiffer { .. } => (Code::InvalidArgument, "BATCH_SIZE_MISMATCH"),
            Self::WrongBytes { .. } => (Code::InvalidArgument, "BYTE_SIZE_MISMATCH"),
            Self::NoData { .. } => (Code::InvalidArgument, "NO_DATA"),
            Self::TwoForms { .. } => (Code::InvalidArgument, "TWO_DATA_FORMS"),
            Self::WrongContents { .. } => (Code::InvalidArgument, "WRONG_DATA_FORM"),
            Self::TwoContents { .. } => (Code::InvalidArgument, "TWO_DATA_FORMS"),
            Self::WrongStrings { .. } => (Code::InvalidArgument, "STRING_COUNT_MISMATCH"),
            Self::BadElement { .. } => (Code::InvalidArgument, "BAD_ELEMENT"),
            Self::BadField { .. } => (Code::InvalidArgument, "BAD_FIELD"),
            Self::NotApplicable { .. } => (Code::FailedPrecondition, "NOT_A_CLASSIFIER"),
            Self::NotFinite { .. } => (Code::InvalidArgument, "NOT_FINITE"),
            Self::UnknownHead { .. } => (Code::InvalidArgument, "UNKNOWN_HEAD"),
            Self::NoProbability { .. } => (Code::InvalidArgument, "NO_PROBABILITY"),
            Self::RowsLost { .. } => (Code::Internal, "ROWS_LOST"),
            Self::Refused { .. } => (Code::InvalidArgument, "VALUES_REFUSED"),
            Self::Fault { .. } => (Code::Internal, "ENGINE_FAULT"),
            Self::QueueFull { .. } => (Code::ResourceExhausted, "QUEUE_FULL"),
            Self::QueueTimeout => (Code::Unavailable, "QUEUE_TIMEOUT"),
            Self::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            Self::RunTooLong { .. } => (Code::DeadlineExceeded, "RUN_TOO_LONG"),
            Self::RunTooLarge { .. } => (Code::ResourceExhausted, "RUN_TOO_LARGE"),
            Self::TooLate { .. } => (Code::DeadlineExceeded, "DEADLINE_TOO_SHORT"),
            Self::Draining => (Code::Unavailable, "DRAINING"),
            Self::MessageTooLarge { .. } => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            Self::MetadataTooLarge { .. } => (Code::ResourceExhausted, "METADATA_TOO_LARGE"),
            Self::TooManyParts { .. } => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            Self::DecodedTooLarge { .. } => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            Self::TooManyStreams { .. } => (Code::ResourceExhausted, "TOO_MANY_STREAMS"),
            Self::NoMemory { .. } => (Code::ResourceExhausted, "MEMORY_BUDGET"),
            Self::SharedMemoryDisabled => (Code::Unimplemented, "SHARED_MEMORY_DISABLED"),
            Self::NoSharedMemory { .. } => (Code::Internal, "NO_SHARED_MEMORY"),
            Self::RegionExists { .. } => (Code::AlreadyExists, "REGION_EXISTS"),
            Self::BadRegion { .. } => (Code::InvalidArgument, "REGION_RANGE"),
            Self::UnknownSystemRegion { .. } => (Code::NotFound, "UNKNOWN_REGION"),
            Self::UnknownCudaRegion { .. } => (Code::NotFound, "UNKNOWN_REGION"),
            Self::UnknownRegion { .. } => (Code::NotFound, "UNKNOWN_REGION"),
            Self::RegionOffset { .. } => (Code::InvalidArgument, "REGION_RANGE"),
            Self::RegionRange { .. } => (Code::InvalidArgument, "REGION_RANGE"),
            Self::SharedTooLarge { .. } => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            Self::TooManyRegions { .. } => (Code::ResourceExhausted, "TOO_MANY_REGIONS"),
            Self::RegionTooSmall { .. } => (Code::Internal, "REGION_TOO_SMALL"),
            Self::NoGpu { .. } => (Code::InvalidArgument, "NO_GPU"),
            Self::ReplyTooLarge { .. } => (Code::ResourceExhausted, "REPLY_TOO_LARGE"),
            Self::ControlDisabled => (Code::Unavailable, "MODEL_CONTROL_DISABLED"),
            Self::NotInRepository { .. } => (Code::Internal, "NOT_IN_REPOSITORY"),
            Self::LoadFailed { .. } => (Code::InvalidArgument, "LOAD_FAILED"),
            Self::NoVersions { .. } => (Code::NotFound, "MODEL_UNLOADED"),
            Self::Unimplemented { .. } => (Code::Unimplemented, "UNIMPLEMENTED"),
            Self::Malformed { .. } => (Code::InvalidArgument, "MALFORMED_CALL"),
            Self::Internal => (Code::Internal, "INTERNAL"),
            Self::OfRequest { error, .. } => error.entry(),
        }
    }

    /// The error's status code. The two services differ where Triton's clients expect it.
    pub fn code(&self, dialect: Dialect) -> Code {
        match (self.itself(), dialect) {
            (Self::QueueFull { .. }, Dialect::Inference) => Code::Unavailable,
            (error, _) => error.entry().0,
        }
    }

    /// The error's reason for programs, which is the same in every language and release.
    pub fn reason(&self) -> &'static str {
        self.entry().1
    }

    /// The field of the request that is at fault; none where no field is.
    fn field(&self) -> Option<String> {
        match self.itself() {
            Self::MissingInputs { .. } => Some("inputs".into()),
            Self::UnexpectedInput { input, .. }
            | Self::DuplicateInput { input }
            | Self::NotFinite { input, .. }
            | Self::NoProbability { input, .. } => Some(format!("inputs[{input}]")),
            Self::WrongDtype { input, .. } => Some(format!("inputs[{input}].dtype")),
            Self::WrongShape { input, .. }
            | Self::WrongRows { input, .. }
            | Self::RowsDiffer { input, .. } => Some(format!("inputs[{input}].shape")),
            Self::WrongBytes { input, .. }
            | Self::NoData { input, .. }
            | Self::TwoForms { input, .. }
            | Self::TwoContents { input, .. }
            | Self::WrongContents { input, .. }
            | Self::WrongStrings { input, .. }
            | Self::BadElement { input, .. } => Some(format!("inputs[{input}].data")),
            Self::UnexpectedOutput { output, .. } | Self::DuplicateOutput { output } => {
                Some(format!("outputs[{output}]"))
            }
            Self::BadVersion { .. } => Some("model_version".into()),
            Self::UnknownHead { .. } => Some("head".into()),
            Self::BadField { field, .. } => Some((*field).into()),
            Self::Refused { .. } => Some("inputs".into()),
            _ => None,
        }
    }
}
