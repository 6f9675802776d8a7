//! The words of errors for which Triton's clients and tests look for Triton's own.

use std::fmt::Write;

use crate::error::Error;
use crate::tensor::{DType, strings};

/// The note that Triton adds where a shape is wrong.
const BATCH_NOTE: &str = "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting max_batch_size to zero. See the model configuration docs for more info on max_batch_size.";

impl Error {
    /// Whether Triton's text begins with the request's id.
    pub(super) fn tells_request(&self) -> bool {
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

    /// The error's text in Triton's own words; none where its clients and tests do not look for
    /// them.
    pub(super) fn triton_message(&self) -> Option<String> {
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
            Self::NotReady { model, version, reason, .. } => format!(
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
            // The text of gRPC's own libraries is used, so that it is the same whether the client
            // or the server notices first.
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

/// The names as Triton lists them, such as `'a','b'`.
fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",")
}

/// The sizes as Triton writes shapes, such as `[-1,10]`.
fn dims(dims: &[i64]) -> String {
    let mut text = String::from("[");
    for (i, dim) in dims.iter().enumerate() {
        let _ = write!(text, "{}{dim}", if i > 0 { "," } else { "" });
    }
    text + "]"
}
