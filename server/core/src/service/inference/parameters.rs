//! The parameters of a ModelInferRequest.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::proto::inference::InferParameter;
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::scheduler::admission::RequestOptions;

/// The one key that a request may have of those beginning with `triton_`.
const EMPTY_FINAL: &str = "triton_enable_empty_final_response";

/// The options that a request's parameters ask for, after a check of every parameter.
///
/// The parameters of sequences change nothing for models without sequences. Unknown parameters are
/// for the model alone, and no model here has any.
pub fn request_options(parameters: &BTreeMap<String, InferParameter>) -> Result<RequestOptions> {
    use ParameterChoice::{BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param};
    let mut request_options = RequestOptions::default();
    for (key, value) in parameters {
        let value = value.parameter_choice.as_ref();
        match (key.as_str(), value) {
            ("sequence_id", Some(Int64Param(_) | StringParam(_)))
            | ("sequence_start" | "sequence_end" | EMPTY_FINAL, Some(BoolParam(_))) => {}
            ("priority", Some(&Uint64Param(priority))) => request_options.priority = priority,
            ("priority", Some(Int64Param(priority @ 0..))) => {
                request_options.priority = priority.unsigned_abs();
            }
            // Clients send a timeout of 0 for none.
            ("timeout", Some(Int64Param(0))) => {}
            ("timeout", Some(Int64Param(microseconds @ 1..))) => {
                request_options.patience = Some(Duration::from_micros(microseconds.unsigned_abs()));
            }
            ("priority" | "timeout", Some(Int64Param(found))) => {
                let detail = format!("invalid value for '{key}', expected value >= 0, got {found}");
                return Err(bad(detail));
            }
            ("sequence_id", _) => {
                return Err(wrong_type(key, "int64_param or string_param", value));
            }
            ("sequence_start" | "sequence_end" | EMPTY_FINAL, _) => {
                return Err(wrong_type(key, "bool_param", value));
            }
            ("priority", _) => return Err(wrong_type(key, "int64_param or uint64_param", value)),
            ("timeout", _) => return Err(wrong_type(key, "int64_param", value)),
            (reserved, _) if reserved.starts_with("triton_") => {
                return Err(bad(format!(
                    "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys starting with 'triton_' are allowed: {EMPTY_FINAL}; got '{key}'"
                )));
            }
            (_, Some(Int64Param(_) | BoolParam(_) | StringParam(_) | DoubleParam(_))) => {}
            _ => {
                let expected = "int64_param, bool_param, string_param or double_param";
                return Err(wrong_type(key, expected, value));
            }
        }
    }
    Ok(request_options)
}

/// The error for a parameter whose value is of another type than expected.
pub fn wrong_type(key: &str, expected: &str, found: Option<&ParameterChoice>) -> Error {
    let found = match found {
        None => "none",
        Some(ParameterChoice::BoolParam(_)) => "bool_param",
        Some(ParameterChoice::Int64Param(_)) => "int64_param",
        Some(ParameterChoice::StringParam(_)) => "string_param",
        Some(ParameterChoice::DoubleParam(_)) => "double_param",
        Some(ParameterChoice::Uint64Param(_)) => "uint64_param",
    };
    bad(format!("invalid value type for '{key}' parameter, expected {expected}. Got {found}"))
}

/// The error for any other fault of a parameter.
pub fn bad(detail: String) -> Error {
    Error::BadField { field: "parameters", detail }
}
