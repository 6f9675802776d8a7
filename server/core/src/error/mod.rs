//! Everything that can go wrong with a request, and the one place that says it on the wire.

use std::fmt::Write;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::tensor::DType;
use crate::tensor::strings;

/// Whose words a status uses: both services fail for the same reasons, but clients of the Open
/// Inference Protocol look for Triton's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `sigmax.v1.ClassifierService`.
    Sigmax,
    /// `inference.GRPCInferenceService`.
    Inference,
}

impl Dialect {
    /// Of a call by its path.
    pub fn of(path: &str) -> Self {
        if path.starts_with("/inference.") { Self::Inference } else { Self::Sigmax }
    }
}

/// Why a request is not answered. Names a field, what was expected and what came.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// No model has this name.
    UnknownModel { model: String },
    /// The model has no such version.
    UnknownVersion { model: String, version: u64 },
    /// The version text is no number above 0.
    BadVersion { found: String },
    /// The model is known, but cannot answer now.
    NotReady { model: String, version: u64, reason: String },
    /// Inputs are missing.
    MissingInputs { model: String, expected: Vec<String>, optional: usize, found: Vec<String> },
    /// The model has no such input.
    UnexpectedInput { model: String, input: String, expected: Vec<String> },
    /// An input came twice.
    DuplicateInput { input: String },
    /// The model has no such output.
    UnexpectedOutput { model: String, output: String, expected: Vec<String> },
    /// An output was asked for twice.
    DuplicateOutput { output: String },
    /// The elements are of another type than the model's.
    WrongDtype { model: String, input: String, expected: &'static str, found: String },
    /// The shape does not fit the model's.
    WrongShape { model: String, input: String, expected: Vec<i64>, found: Vec<i64>, batched: bool },
    /// More rows than the model takes at once, or none.
    WrongRows { model: String, input: String, max: usize, found: usize },
    /// Two inputs differ in their number of rows.
    RowsDiffer { model: String, input: String, expected: usize, found: usize },
    /// The bytes do not fit the shape.
    WrongBytes { model: String, input: String, expected: usize, found: usize },
    /// An input came without elements.
    NoData { model: String, input: String },
    /// Elements are given in two forms at once.
    TwoForms { model: String, input: String },
    /// Typed contents are in the list of another type.
    WrongContents { model: String, input: String, expected: &'static str, found: &'static str },
    /// Typed contents are in two lists at once.
    TwoContents { model: String, input: String },
    /// The bytes are not as many strings as the shape says.
    WrongStrings { model: String, input: String, expected: usize, fault: strings::Fault },
    /// An element is not of its type.
    BadElement { model: String, input: String, detail: String },
    /// Any other field is off.
    BadField { field: &'static str, detail: String },
    /// What the model is does not allow this call.
    NotApplicable { model: String, detail: String },
    /// The model gave no finite probability for a row.
    NotFinite { model: String, row: usize, input: String },
    /// The model itself refused the values, such as an index out of range.
    Refused { model: String },
    /// The engine failed; the log has the details.
    Fault { model: String },
    /// The model's queue is full.
    QueueFull { model: String, full: Full, retry_after: Duration },
    /// It waited for its batch longer than it may.
    QueueTimeout,
    /// The deadline passed before the work was done.
    DeadlineExceeded,
    /// The run took too long, and was ended.
    RunTooLong { model: String, limit: Duration },
    /// The run was to allocate too much, and was ended.
    RunTooLarge { model: String, limit: usize },
    /// The deadline would pass before the work is done, which is so far expected to take so long.
    TooLate { expected: Duration, left: Duration },
    /// The server takes no more work.
    Draining,
    /// A message over the limit.
    MessageTooLarge { found: usize, limit: usize },
    /// More metadata than the limit.
    MetadataTooLarge { found: usize, limit: usize },
    /// A message with more embedded messages than any model takes.
    TooManyParts { found: usize, limit: usize },
    /// A message that would hold more than its connection may, once decoded.
    DecodedTooLarge { found: usize, limit: usize },
    /// Too many streams on one connection.
    TooManyStreams { limit: usize },
    /// Too many bytes of messages under way.
    NoMemory { limit: usize },
    /// Shared memory is not allowed.
    SharedMemoryDisabled,
    /// There is no such shared memory object.
    NoSharedMemory { key: String },
    /// A region of this name is registered already.
    RegionExists { region: String },
    /// A region that is not within its object, or of no bytes.
    BadRegion { region: String },
    /// There is no such region; told to those who ask for its status.
    UnknownSystemRegion { region: String },
    /// There is no such region on a GPU.
    UnknownCudaRegion { region: String },
    /// There is no such region.
    UnknownRegion { region: String },
    /// A part of a region that begins after its end.
    RegionOffset { region: String },
    /// A part that is not within its region, or no longer within its object.
    RegionRange { region: String },
    /// Inputs in shared memory that are longer than a message may be.
    SharedTooLarge { found: usize, limit: usize },
    /// More regions than may be registered at once.
    TooManyRegions { limit: usize },
    /// An output does not fit where it was asked to go.
    RegionTooSmall { output: String, found: usize, expected: usize },
    /// This build knows no GPU.
    NoGpu { region: String },
    /// An answer longer than clients can read.
    ReplyTooLarge { found: usize, limit: usize },
    /// Models are not loaded by request.
    ControlDisabled,
    /// No repository has the model, or the configuration beside the order is none.
    NotInRepository { model: String, reason: String },
    /// A model was to be loaded and could not be.
    LoadFailed { model: String, reason: String },
    /// Every version of the model has been unloaded.
    NoVersions { model: String },
    /// A message in a form that this server does not read.
    Unimplemented { detail: String },
    /// The request is no well-formed gRPC call.
    Malformed { detail: String },
    /// A fault of ours; the log has the details.
    Internal,
    /// Of a request that has an id, or none: Triton says which in some of its texts.
    OfRequest { id: String, error: Box<Self> },
}

/// A queue that has no room: how much of what waits, of at most how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Of what: rows, bytes or requests.
    pub unit: &'static str,
    /// As much as waits.
    pub found: usize,
    /// As may wait.
    pub limit: usize,
}

/// When to try again what found no room among messages under way: they come and go by the moment.
const MEMORY_RETRY: Duration = Duration::from_millis(100);

/// Work that was given away and did not come back: it panicked, or all ends.
impl From<tokio::task::JoinError> for Error {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Internal
    }
}

/// The result of anything that may fail for a reason the caller is told.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The same error, of the request with this id.
    pub fn of_request(self, id: String) -> Self {
        Self::OfRequest { id, error: self.into() }
    }

    /// The error as a gRPC status with its details.
    pub fn status(&self, dialect: Dialect) -> Status {
        let mut details = ErrorDetails::with_error_info(self.reason(), "sigmax", []);
        if let Some(field) = self.field() {
            details.add_bad_request_violation(
                shortened(field),
                shortened(self.message(Dialect::Sigmax)),
            );
        }
        match self.itself() {
            Self::QueueFull { retry_after, .. } => details.set_retry_info(Some(*retry_after)),
            Self::NoMemory { .. } => details.set_retry_info(Some(MEMORY_RETRY)),
            _ => &mut details,
        };
        Status::with_error_details(self.code(dialect), shortened(self.message(dialect)), details)
    }

    /// An answer that would come too late; the times are rounded down to two digits. In an overload
    /// many refusals are alike then, and HTTP/2 sends what it has sent before as a number.
    pub fn too_late(expected: Duration, left: Duration) -> Self {
        Self::TooLate { expected: two_digits(expected), left: two_digits(left) }
    }

    /// The error without the request's id.
    pub fn itself(&self) -> &Self {
        match self {
            Self::OfRequest { error, .. } => error,
            error => error,
        }
    }

    /// The status code. The two services differ where Triton's clients expect it.
    pub fn code(&self, dialect: Dialect) -> Code {
        match self.itself() {
            Self::UnknownModel { .. } | Self::UnknownVersion { .. } | Self::NoVersions { .. } => {
                Code::NotFound
            }
            Self::NotReady { .. } | Self::Draining | Self::QueueTimeout | Self::ControlDisabled => {
                Code::Unavailable
            }
            Self::UnknownSystemRegion { .. }
            | Self::UnknownCudaRegion { .. }
            | Self::UnknownRegion { .. } => Code::NotFound,
            Self::RegionExists { .. } => Code::AlreadyExists,
            Self::SharedMemoryDisabled => Code::Unimplemented,
            // As Triton has it.
            Self::NoSharedMemory { .. }
            | Self::RegionTooSmall { .. }
            | Self::NotInRepository { .. } => Code::Internal,
            Self::NotApplicable { .. } => Code::FailedPrecondition,
            Self::QueueFull { .. } if dialect == Dialect::Inference => Code::Unavailable,
            Self::QueueFull { .. }
            | Self::MessageTooLarge { .. }
            | Self::MetadataTooLarge { .. }
            | Self::TooManyParts { .. }
            | Self::DecodedTooLarge { .. }
            | Self::TooManyStreams { .. }
            | Self::SharedTooLarge { .. }
            | Self::TooManyRegions { .. }
            | Self::NoMemory { .. }
            | Self::RunTooLarge { .. }
            | Self::ReplyTooLarge { .. } => Code::ResourceExhausted,
            Self::DeadlineExceeded | Self::TooLate { .. } | Self::RunTooLong { .. } => {
                Code::DeadlineExceeded
            }
            Self::Unimplemented { .. } => Code::Unimplemented,
            Self::Fault { .. } | Self::Internal => Code::Internal,
            _ => Code::InvalidArgument,
        }
    }

    /// The reason for programs, the same in every language and release.
    pub fn reason(&self) -> &'static str {
        match self.itself() {
            Self::UnknownModel { .. } => "UNKNOWN_MODEL",
            Self::UnknownVersion { .. } => "UNKNOWN_VERSION",
            Self::BadVersion { .. } => "BAD_VERSION",
            Self::NotReady { .. } => "MODEL_NOT_READY",
            Self::NoVersions { .. } => "MODEL_UNLOADED",
            Self::ControlDisabled => "MODEL_CONTROL_DISABLED",
            Self::NotInRepository { .. } => "NOT_IN_REPOSITORY",
            Self::LoadFailed { .. } => "LOAD_FAILED",
            Self::MissingInputs { .. } => "MISSING_INPUT",
            Self::UnexpectedInput { .. } => "UNEXPECTED_INPUT",
            Self::DuplicateInput { .. } => "DUPLICATE_INPUT",
            Self::UnexpectedOutput { .. } => "UNEXPECTED_OUTPUT",
            Self::DuplicateOutput { .. } => "DUPLICATE_OUTPUT",
            Self::WrongDtype { .. } => "DTYPE_MISMATCH",
            Self::WrongShape { .. } => "SHAPE_MISMATCH",
            Self::WrongRows { .. } => "BATCH_SIZE",
            Self::RowsDiffer { .. } => "BATCH_SIZE_MISMATCH",
            Self::WrongBytes { .. } => "BYTE_SIZE_MISMATCH",
            Self::NoData { .. } => "NO_DATA",
            Self::TwoForms { .. } | Self::TwoContents { .. } => "TWO_DATA_FORMS",
            Self::WrongContents { .. } => "WRONG_DATA_FORM",
            Self::WrongStrings { .. } => "STRING_COUNT_MISMATCH",
            Self::BadElement { .. } => "BAD_ELEMENT",
            Self::BadField { .. } => "BAD_FIELD",
            Self::NotApplicable { .. } => "NOT_A_CLASSIFIER",
            Self::NotFinite { .. } => "NOT_FINITE",
            Self::Refused { .. } => "VALUES_REFUSED",
            Self::Fault { .. } => "ENGINE_FAULT",
            Self::QueueFull { .. } => "QUEUE_FULL",
            Self::QueueTimeout => "QUEUE_TIMEOUT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::TooLate { .. } => "DEADLINE_TOO_SHORT",
            Self::RunTooLong { .. } => "RUN_TOO_LONG",
            Self::RunTooLarge { .. } => "RUN_TOO_LARGE",
            Self::Draining => "DRAINING",
            Self::MetadataTooLarge { .. } => "METADATA_TOO_LARGE",
            Self::MessageTooLarge { .. }
            | Self::TooManyParts { .. }
            | Self::SharedTooLarge { .. }
            | Self::DecodedTooLarge { .. } => "MESSAGE_TOO_LARGE",
            Self::TooManyRegions { .. } => "TOO_MANY_REGIONS",
            Self::TooManyStreams { .. } => "TOO_MANY_STREAMS",
            Self::NoMemory { .. } => "MEMORY_BUDGET",
            Self::SharedMemoryDisabled => "SHARED_MEMORY_DISABLED",
            Self::NoSharedMemory { .. } => "NO_SHARED_MEMORY",
            Self::RegionExists { .. } => "REGION_EXISTS",
            Self::UnknownSystemRegion { .. }
            | Self::UnknownCudaRegion { .. }
            | Self::UnknownRegion { .. } => "UNKNOWN_REGION",
            Self::BadRegion { .. } | Self::RegionOffset { .. } | Self::RegionRange { .. } => {
                "REGION_RANGE"
            }
            Self::RegionTooSmall { .. } => "REGION_TOO_SMALL",
            Self::NoGpu { .. } => "NO_GPU",
            Self::ReplyTooLarge { .. } => "REPLY_TOO_LARGE",
            Self::Unimplemented { .. } => "UNIMPLEMENTED",
            Self::Malformed { .. } => "MALFORMED_CALL",
            Self::Internal | Self::OfRequest { .. } => "INTERNAL",
        }
    }

    /// The request's field at fault, where it is one.
    fn field(&self) -> Option<String> {
        match self.itself() {
            Self::MissingInputs { .. } => Some("inputs".into()),
            Self::UnexpectedInput { input, .. }
            | Self::DuplicateInput { input }
            | Self::NotFinite { input, .. } => Some(format!("inputs[{input}]")),
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
            Self::BadField { field, .. } => Some((*field).into()),
            Self::Refused { .. } => Some("inputs".into()),
            _ => None,
        }
    }

    /// The text for people.
    pub fn message(&self, dialect: Dialect) -> String {
        match dialect {
            Dialect::Sigmax => self.itself().sigmax_message(),
            Dialect::Inference => {
                let error = self.itself();
                let text = error.triton_message().unwrap_or_else(|| error.sigmax_message());
                match self {
                    Self::OfRequest { id, .. } if error.tells_request() => {
                        let id = if id.is_empty() { "<id_unknown>" } else { id };
                        format!("[request id: {id}] {text}")
                    }
                    _ => text,
                }
            }
        }
    }

    /// Whether Triton's text begins with the request's id.
    fn tells_request(&self) -> bool {
        matches!(
            self,
            Self::MissingInputs { .. }
                | Self::DuplicateInput { .. }
                | Self::DuplicateOutput { .. }
                | Self::WrongDtype { .. }
                | Self::WrongShape { .. }
                | Self::WrongRows { .. }
                | Self::RowsDiffer { .. }
                | Self::WrongBytes { .. }
                | Self::WrongStrings { .. }
                | Self::QueueFull { .. }
        )
    }

    fn sigmax_message(&self) -> String {
        match self {
            Self::UnknownModel { model } => format!("no model is named '{model}'"),
            Self::UnknownVersion { model, version } => {
                format!("model '{model}' has no version {version}")
            }
            Self::BadVersion { found } => {
                format!(
                    "model_version: expected a decimal number above 0, or nothing; got '{found}'"
                )
            }
            Self::NotReady { model, reason, .. } => {
                format!("model '{model}' is not ready: {reason}")
            }
            Self::NoVersions { model } => format!("model '{model}' has been unloaded"),
            Self::MissingInputs { model, expected, found, .. } => format!(
                "model '{model}' expects the inputs {}; got {}",
                quoted(expected),
                quoted(found)
            ),
            Self::UnexpectedInput { model, input, expected } => format!(
                "model '{model}' has no input '{input}'; its inputs are {}",
                quoted(expected)
            ),
            Self::DuplicateInput { input } => format!("input '{input}' is given more than once"),
            Self::UnexpectedOutput { model, output, expected } => format!(
                "model '{model}' has no output '{output}'; its outputs are {}",
                quoted(expected)
            ),
            Self::DuplicateOutput { output } => {
                format!("output '{output}' is asked for more than once")
            }
            Self::WrongDtype { model, input, expected, found } => {
                format!(
                    "input '{input}' of model '{model}': expected dtype {expected}, got {found}"
                )
            }
            Self::WrongShape { model, input, expected, found, .. } => format!(
                "input '{input}' of model '{model}': expected shape {expected:?}, got {found:?}"
            ),
            Self::WrongRows { model, input, max, found } => {
                format!("input '{input}' of model '{model}': expected 1 to {max} rows, got {found}")
            }
            Self::RowsDiffer { model, input, expected, found } => format!(
                "input '{input}' of model '{model}': expected {expected} rows, as the other inputs have, got {found}"
            ),
            Self::WrongBytes { model, input, expected, found } => format!(
                "input '{input}' of model '{model}': expected {expected} bytes for its shape and dtype, got {found}"
            ),
            Self::NoData { model, input } => {
                format!("input '{input}' of model '{model}': expected elements, got none")
            }
            Self::TwoForms { model, input } => format!(
                "input '{input}' of model '{model}': expected its elements in one form, got two"
            ),
            Self::WrongContents { model, input, expected, found } => format!(
                "input '{input}' of model '{model}': expected its elements as {expected}, got {found}"
            ),
            Self::TwoContents { model, input } => format!(
                "input '{input}' of model '{model}': expected its elements in one list, got two"
            ),
            Self::WrongStrings { model, input, expected, fault } => format!(
                "input '{input}' of model '{model}': expected {expected} strings for its shape, got {}",
                match fault {
                    strings::Fault::Fewer(found) => found.to_string(),
                    strings::Fault::More => "more".into(),
                    strings::Fault::CutLength(left) =>
                        format!("the first {left} bytes of a length at the end"),
                    strings::Fault::CutElement(missing) =>
                        format!("a string at the end that lacks {missing} bytes"),
                }
            ),
            Self::BadElement { model, input, detail } => {
                format!("input '{input}' of model '{model}': {detail}")
            }
            Self::BadField { field, detail } => format!("{field}: {detail}"),
            Self::OfRequest { error, .. } => error.sigmax_message(),
            Self::NotApplicable { model, detail } => format!("model '{model}' {detail}"),
            Self::NotFinite { model, row, input } => format!(
                "model '{model}' gives no finite probability for row {row} of input '{input}'"
            ),
            Self::Refused { model } => {
                format!("model '{model}' does not take these values; the server's log says more")
            }
            Self::Fault { model } => format!("model '{model}' failed; the server's log says more"),
            Self::QueueFull { model, full: Full { unit, found, limit }, .. } => format!(
                "the queue of model '{model}' holds {found} {unit} of at most {limit}; try again later"
            ),
            Self::QueueTimeout => {
                "the request has waited for its batch longer than the model's queue policy allows"
                    .into()
            }
            Self::DeadlineExceeded => "the deadline passed before there was an answer".into(),
            Self::RunTooLong { model, limit } => format!(
                "expected a run of model '{model}' to take at most {limit:?}; it took longer, and was ended"
            ),
            Self::RunTooLarge { model, limit } => format!(
                "expected a run of model '{model}' to allocate at most {limit} bytes; it was to allocate more, and was ended; ask for fewer rows"
            ),
            Self::TooLate { expected, left } => format!(
                "an answer is expected to take {expected:?}, the deadline leaves {left:?}: not run"
            ),
            Self::Draining => "the server is shutting down and takes no new requests".into(),
            Self::MetadataTooLarge { found, limit } => {
                format!("metadata: expected at most {limit} bytes, got {found}")
            }
            Self::MessageTooLarge { found, limit } => {
                format!("expected a message of at most {limit} bytes, got {found}")
            }
            Self::TooManyParts { found, limit } => format!(
                "expected a message of at most {limit} parts (inputs, outputs, parameters and what they hold), got {found}"
            ),
            Self::DecodedTooLarge { found, limit } => format!(
                "expected a message that takes at most {limit} bytes of memory, got one that takes {found}; send fewer rows, or raw tensors"
            ),
            Self::TooManyStreams { limit } => format!(
                "expected at most {limit} streams and watches at once on a connection; end some, or open another connection"
            ),
            Self::NoMemory { limit } => format!(
                "expected requests and answers under way to hold at most {limit} bytes together, and those of one connection half of it; try again later"
            ),
            // These are of the Open Inference Protocol alone, and so in Triton's words.
            Self::ControlDisabled => {
                "explicit model load / unload is not allowed if polling is enabled".into()
            }
            Self::NotInRepository { model, reason } => format!(
                "failed to load '{model}', failed to poll from model repository: {reason}"
            ),
            Self::LoadFailed { model, reason } => {
                format!("load failed for model '{model}': {reason}")
            }
            Self::SharedMemoryDisabled => "Client shared memory is disabled. Start the server with '--shared-memory' to enable.".into(),
            Self::NoSharedMemory { key } => {
                format!("Unable to open shared memory region: '{key}'")
            }
            Self::RegionExists { region } => {
                format!("shared memory region '{region}' already in manager")
            }
            Self::BadRegion { region } => {
                format!("failed to register shared memory region '{region}': invalid args")
            }
            Self::UnknownSystemRegion { region } => {
                format!("Unable to find system shared memory region: '{region}'")
            }
            Self::UnknownCudaRegion { region } => {
                format!("Unable to find cuda shared memory region: '{region}'")
            }
            Self::UnknownRegion { region } => {
                format!("Unable to find shared memory region: '{region}'")
            }
            Self::RegionOffset { region } => {
                format!("Invalid offset for shared memory region: '{region}'")
            }
            Self::RegionRange { region } => {
                format!("Invalid offset + byte size for shared memory region: '{region}'")
            }
            Self::SharedTooLarge { found, limit } => format!(
                "expected inputs in shared memory to have at most {limit} bytes together, as a message may, got {found}; '--max-message-bytes' says how many"
            ),
            Self::TooManyRegions { limit } => format!(
                "expected at most {limit} shared memory regions at once; unregister some"
            ),
            Self::RegionTooSmall { output, found, expected } => format!(
                "shared memory size specified with the request for output '{output}' ({found} bytes) should be at least {expected} bytes to hold the results"
            ),
            Self::NoGpu { region } => format!(
                "failed to register CUDA shared memory region: '{region}', GPUs not supported"
            ),
            Self::ReplyTooLarge { found, limit } => {
                format!("expected an answer of at most {limit} bytes, got {found}; ask for fewer rows")
            }
            Self::Unimplemented { detail } | Self::Malformed { detail } => detail.clone(),
            Self::Internal => "the server failed; its log says more".into(),
        }
    }

    /// Triton's own words, where its clients and tests look for them.
    fn triton_message(&self) -> Option<String> {
        Some(match self {
            Self::UnknownModel { model } => {
                format!("Request for unknown model: '{model}' is not found")
            }
            Self::UnknownVersion { model, version } => {
                format!("Request for unknown model: '{model}' version {version} is not found")
            }
            Self::BadVersion { found } if found.parse().is_ok_and(|number: i64| number < 0) => {
                format!(
                    "invalid model version specified '{found}', version should be an integral value > 0"
                )
            }
            Self::BadVersion { found } => format!(
                "failed to get model version from specified version string '{found}' (details: stol), version should be an integral value > 0"
            ),
            Self::NotReady { model, version, reason } => format!(
                "Request for unknown model: '{model}' version {version} is not at ready state: {reason}"
            ),
            Self::NoVersions { model } => {
                format!("Request for unknown model: '{model}' has no available versions")
            }
            Self::MissingInputs { model, expected, optional, found } => {
                let missing: Vec<_> =
                    expected.iter().filter(|name| !found.contains(name)).cloned().collect();
                let required = expected.len();
                let wanted = match optional {
                    0 => format!("{required} inputs"),
                    _ => format!("number of inputs between {required} and {}", required + optional),
                };
                format!(
                    "expected {wanted} but got {} inputs for model '{model}'. Got input(s) [{}], but missing required input(s) [{}]. Please provide all required input(s).",
                    found.len(),
                    listed(found),
                    listed(&missing)
                )
            }
            Self::UnexpectedInput { model, input, .. } => {
                format!("unexpected inference input '{input}' for model '{model}'")
            }
            Self::DuplicateInput { input } => format!("input '{input}' already exists in request"),
            Self::UnexpectedOutput { model, output, .. } => {
                format!("unexpected inference output '{output}' for model '{model}'")
            }
            Self::DuplicateOutput { output } => {
                format!("output '{output}' already exists in request")
            }
            Self::WrongDtype { model, input, expected, found } => format!(
                "inference input '{input}' data-type is '{}', but model '{model}' expects '{expected}'",
                DType::from_name(found).map_or("<invalid>", DType::name)
            ),
            Self::WrongShape { model, input, found, batched: true, .. } if found.is_empty() => {
                format!(
                    "input '{input}' has no shape but model requires batch dimension for '{model}'"
                )
            }
            Self::WrongShape { model, input, expected, found, .. }
                if expected.len() == found.len() && found.contains(&-1) =>
            {
                format!(
                    "All input dimensions should be specified for input '{input}' for model '{model}', got {}",
                    dims(found)
                )
            }
            Self::WrongShape { model, input, expected, found, batched } => format!(
                "unexpected shape for input '{input}' for model '{model}'. Expected {}, got {}. {}",
                dims(expected),
                dims(found),
                if *batched { BATCH_NOTE } else { "" }
            ),
            Self::WrongRows { model, max, found, .. } if found > max => {
                format!("inference request batch-size must be <= {max} for '{model}'")
            }
            Self::RowsDiffer { model, input, .. } => {
                format!("input '{input}' batch size does not match other inputs for '{model}'")
            }
            Self::WrongBytes { model, input, expected, found } => format!(
                "input byte size mismatch for input '{input}' for model '{model}'. Expected {expected}, got {found}"
            ),
            Self::NoData { model, input } => format!(
                "unable to find data for input tensor '{input}' for model '{model}' in request."
            ),
            Self::TwoForms { model, input } => format!(
                "contents field must not be specified when using raw_input_contents for '{input}' for model '{model}'"
            ),
            Self::WrongContents { model, input, expected, found } => format!(
                "unexpected explicit tensor data for input tensor '{input}' for model '{model}' of type '{found}', expected datatype '{expected}'"
            ),
            Self::TwoContents { model, input } => format!(
                "unexpected explicit tensor data for input tensor '{input}' for model '{model}', binary data was already supplied."
            ),
            Self::WrongStrings { model, input, expected, fault } => match fault {
                strings::Fault::Fewer(found) => format!(
                    "expected {expected} string elements for inference input '{input}' for model '{model}', got {found}"
                ),
                strings::Fault::More => format!(
                    "unexpected number of string elements {} for inference input '{input}' for model '{model}', expecting {expected}",
                    expected + 1
                ),
                strings::Fault::CutLength(left) => format!(
                    "incomplete string length indicator for inference input '{input}' for model '{model}', expecting 4 bytes but only {left} bytes available."
                ),
                strings::Fault::CutElement(missing) => format!(
                    "incomplete string data for inference input '{input}' for model '{model}', {missing} bytes are missing"
                ),
            },
            Self::BadField { detail, .. } => detail.clone(),
            Self::QueueTimeout => "Request timeout expired".into(),
            // What gRPC's own libraries say, so that it is the same whoever notices first.
            Self::DeadlineExceeded => "Deadline Exceeded".into(),
            Self::TooLate { .. } => format!("Deadline Exceeded: {}", self.sigmax_message()),
            Self::QueueFull { .. } => "Exceeds maximum queue size".into(),
            Self::Draining => {
                "GRPC server is shutting down and has stopped accepting new requests.".into()
            }
            _ => return None,
        })
    }
}

/// Clients take headers of 8 KiB by default, and a text is in them up to four times:
/// percent-encoded, and in the details, as message, field and description, as base64.
const MOST_TEXT: usize = 900;

/// A text that fits into headers, by its beginning.
fn shortened(mut text: String) -> String {
    if text.len() > MOST_TEXT {
        text.truncate(text.floor_char_boundary(MOST_TEXT));
        text.push_str(" ...");
    }
    text
}

/// What Triton adds where a shape is wrong.
const BATCH_NOTE: &str = "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size.";

/// `'a', 'b'`, or `nothing`.
fn quoted(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".into();
    }
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// `'a','b'`, as Triton lists names.
fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",")
}

/// `[-1,10]`, as Triton writes shapes.
fn dims(dims: &[i64]) -> String {
    let mut text = String::from("[");
    for (i, dim) in dims.iter().enumerate() {
        let _ = write!(text, "{}{dim}", if i > 0 { "," } else { "" });
    }
    text + "]"
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sigmax_message())
    }
}

impl std::error::Error for Error {}

fn two_digits(time: Duration) -> Duration {
    let nanoseconds = time.as_nanos() as u64;
    let unit = 10u64.pow(nanoseconds.max(1).ilog10().saturating_sub(1));
    Duration::from_nanos(nanoseconds / unit * unit)
}
