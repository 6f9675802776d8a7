//! The words of errors in our own dialect.

use crate::error::{Error, Full};
use crate::tensor::strings;

impl Error {
    /// The error's text in our own words.
    pub(super) fn sigmax_message(&self) -> String {
        match self {
            Self::Unauthenticated(reason) => reason.message().into(),
            Self::PermissionDenied { who, right, model: Some(model) } => {
                format!("'{who}' may not {right} model '{model}'")
            }
            Self::PermissionDenied { who, right, model: None } => {
                format!("'{who}' may not {right} the server")
            }
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
            Self::UnknownHead { model, head, known } => {
                let has = match &known[..] {
                    [only] if only.is_empty() => "no head with a name".to_owned(),
                    names => format!("the heads {}", quoted(names)),
                };
                format!("head: model '{model}' has {has}; got '{head}'")
            }
            Self::NoProbability { model, detail, .. } => {
                format!("model '{model}' gives no probabilities: {detail}")
            }
            Self::RowsLost { model, expected } => format!(
                "model '{model}' gives another number of rows than the {expected} of the request; \
                 the server's log says more"
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
            // The errors below are of the Open Inference Protocol alone, and so have Triton's
            // words.
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
}

/// The names in quotes, such as `'a', 'b'`; `nothing` where there are none.
fn quoted(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".into();
    }
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}
