//! The errors of requests, and their words on the wire.

use std::time::Duration;

use crate::tensor::strings;

mod sigmax;
mod status;
mod triton;
mod unauthenticated;

pub use unauthenticated::Unauthenticated;

/// The dialect of a status: both services fail for the same reasons, but clients of the Open
/// Inference Protocol look for Triton's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The dialect of `sigmax.v1.ClassifierService`.
    Sigmax,
    /// The dialect of `inference.GRPCInferenceService`.
    Inference,
}

impl Dialect {
    /// The dialect of a call, by its path.
    pub fn of(path: &str) -> Self {
        if path.starts_with("/inference.") { Self::Inference } else { Self::Sigmax }
    }
}

/// The reason why a request is not answered. Its text names a field, what was expected and what
/// came.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The caller has not shown who it is.
    Unauthenticated(Unauthenticated),
    /// The caller may not do this with this model; none: with the server as a whole.
    PermissionDenied { who: String, right: &'static str, model: Option<String> },
    /// No model has this name.
    UnknownModel { model: String },
    /// The model has no such version.
    UnknownVersion { model: String, version: u64 },
    /// The version text is no number above 0.
    BadVersion { found: String },
    /// The model is known, but cannot answer now; whether that lasts until somebody loads it anew.
    NotReady { model: String, version: u64, reason: String, lasts: bool },
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
    /// The rows are more than the model takes at once, or none.
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
    /// Another field of the request is wrong.
    BadField { field: &'static str, detail: String },
    /// The kind of the model does not allow this call.
    NotApplicable { model: String, detail: String },
    /// The model gave no finite probability for a row.
    NotFinite { model: String, row: usize, input: String },
    /// The model has no head of this name, but those known.
    UnknownHead { model: String, head: String, known: Vec<String> },
    /// The answer to a row is no probabilities, as the detail says.
    NoProbability { model: String, input: String, detail: String },
    /// The answer has another number of rows than the request; the log has the details.
    RowsLost { model: String, expected: usize },
    /// The model itself refused the values, such as an index out of range.
    Refused { model: String },
    /// The engine failed; the log has the details.
    Fault { model: String },
    /// The model's queue is full.
    QueueFull { model: String, full: Full, retry_after: Duration },
    /// The request waited for its batch longer than it may.
    QueueTimeout,
    /// The deadline passed before the work was done.
    DeadlineExceeded,
    /// The run took too long, and was ended.
    RunTooLong { model: String, limit: Duration },
    /// The run was to allocate too much, and was ended.
    RunTooLarge { model: String, limit: usize },
    /// The deadline would pass before the answer, which is expected to take the time `expected`,
    /// while `left` is left.
    TooLate { expected: Duration, left: Duration },
    /// The server takes no more work.
    Draining,
    /// The message has more bytes than a message may have.
    MessageTooLarge { found: usize, limit: usize },
    /// The metadata has more bytes than metadata may have.
    MetadataTooLarge { found: usize, limit: usize },
    /// The message has more embedded messages than any model takes.
    TooManyParts { found: usize, limit: usize },
    /// The message would hold more bytes once decoded than its connection may.
    DecodedTooLarge { found: usize, limit: usize },
    /// The connection has too many streams.
    TooManyStreams { limit: usize },
    /// The messages under way hold too many bytes.
    NoMemory { limit: usize },
    /// Shared memory is not allowed.
    SharedMemoryDisabled,
    /// There is no such shared memory object.
    NoSharedMemory { key: String },
    /// A region of this name is registered already.
    RegionExists { region: String },
    /// A region is not within its object, or has no bytes.
    BadRegion { region: String },
    /// There is no such region; this is told to a client that asks for its status.
    UnknownSystemRegion { region: String },
    /// There is no such region on a GPU.
    UnknownCudaRegion { region: String },
    /// There is no such region.
    UnknownRegion { region: String },
    /// A part of a region begins after the region's end.
    RegionOffset { region: String },
    /// A part of a region is not within the region, or no longer within its object.
    RegionRange { region: String },
    /// Inputs in shared memory have more bytes than a message may have.
    SharedTooLarge { found: usize, limit: usize },
    /// The regions are more than may be registered at once.
    TooManyRegions { limit: usize },
    /// An output does not fit into the part of a region that was asked for it.
    RegionTooSmall { output: String, found: usize, expected: usize },
    /// Shared memory on a GPU is not supported by this build.
    NoGpu { region: String },
    /// The answer has more bytes than clients can read.
    ReplyTooLarge { found: usize, limit: usize },
    /// Models are not loaded by request.
    ControlDisabled,
    /// No repository has the model, or the configuration beside the order is none.
    NotInRepository { model: String, reason: String },
    /// A model was to be loaded and could not be.
    LoadFailed { model: String, reason: String },
    /// Every version of the model has been unloaded.
    NoVersions { model: String },
    /// The message has a form that this server does not read.
    Unimplemented { detail: String },
    /// The request is no well-formed gRPC call.
    Malformed { detail: String },
    /// The server has a fault; the log has the details.
    Internal,
    /// The error is of the request with this id, which Triton's texts name. Empty: the request has
    /// no id.
    OfRequest { id: String, error: Box<Self> },
}

/// The limit by which a queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The unit that is counted: rows, bytes or requests.
    pub unit: &'static str,
    /// The rows, bytes or requests that wait.
    pub found: usize,
    /// The most rows, bytes or requests that may wait.
    pub limit: usize,
}

/// The error of a task that did not come back: it panicked, or the server ends.
impl From<tokio::task::JoinError> for Error {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Internal
    }
}

/// The result of work that may fail for a reason that the client is told.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The same error as one of the request with this id.
    pub fn of_request(self, id: String) -> Self {
        Self::OfRequest { id, error: self.into() }
    }

    /// The error of an answer that would come too late. The times are rounded down to two digits:
    /// many refusals of an overload are alike then, and HTTP/2 sends a header that it has sent
    /// before as a number.
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

    /// The error's text for people.
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
