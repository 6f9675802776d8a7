//! The error of a call.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use prost::Message;

/// The result of everything that may fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Base64 of a binary header, whose padding senders may leave out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The code of a gRPC status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// The call was cancelled.
    Cancelled = 1,
    /// The failure has no known kind.
    Unknown = 2,
    /// The request is wrong, and fails whatever the server's state.
    InvalidArgument = 3,
    /// The deadline has passed.
    DeadlineExceeded = 4,
    /// The model, or the version of it, does not exist.
    NotFound = 5,
    /// What is to be made exists.
    AlreadyExists = 6,
    /// The caller is known, and has no right to the call.
    PermissionDenied = 7,
    /// The server has no room for the call, or the message is too large.
    ResourceExhausted = 8,
    /// The model or the server is in a state that does not allow the call.
    FailedPrecondition = 9,
    /// The call was broken off by another one.
    Aborted = 10,
    /// A number is out of its range.
    OutOfRange = 11,
    /// The server does not know the call.
    Unimplemented = 12,
    /// The server failed, or its answer cannot be read.
    Internal = 13,
    /// The server cannot be reached, or does not serve the model yet.
    Unavailable = 14,
    /// Data are lost.
    DataLoss = 15,
    /// The caller is not known: a token or a certificate is missing or wrong.
    Unauthenticated = 16,
}

/// All codes with their names in gRPC's specification.
const CODES: [(Code, &str); 16] = [
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

impl Code {
    /// The code's name in gRPC's specification, such as "INVALID_ARGUMENT".
    pub fn name(self) -> &'static str {
        CODES[self as usize - 1].1
    }

    /// The code of this number; `Unknown` where the number is none of an error.
    pub fn from_number(number: i32) -> Self {
        let found = CODES.iter().find(|(code, _)| *code as i32 == number);
        found.map_or(Self::Unknown, |(code, _)| *code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.name())
    }
}

/// What is to become of a call that has failed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The code says whether another try may succeed; it follows after the client's own pause.
    ByCode,
    /// Another try may succeed after this time, which the server has named.
    After(Duration),
    /// The server has not worked on the call: it is sent again at once.
    AtOnce,
    /// Another try fails, too.
    Never,
}

/// A failed call, or a request that was not sent because it cannot be right.
///
/// A call has failed with the gRPC status that [`code`](Self::code) and
/// [`message`](Self::message) say; programs tell errors of one code apart by
/// [`reason`](Self::reason).
#[derive(Clone)]
pub struct Error(Box<Status>);

#[derive(Clone, Debug)]
struct Status {
    code: Code,
    reason: String,
    fields: BTreeMap<String, String>,
    message: String,
    retry: Retry,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let (reason, fields) = Default::default();
        Self(Box::new(Status {
            code,
            reason,
            fields,
            message: message.into(),
            retry: Retry::ByCode,
        }))
    }

    /// The error of one field of a request or of the options, which is not sent because of it.
    pub(crate) fn in_field(field: &str, reason: &str, problem: impl fmt::Display) -> Self {
        let message = format!("{field}: {problem}");
        let mut error = Self::new(Code::InvalidArgument, &message).because(reason);
        error.0.fields.insert(field.into(), message);
        error
    }

    /// The same error with this reason.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.0.reason = reason.into();
        self
    }

    /// The same error, which is followed by this.
    pub(crate) fn then(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// The same error, whose message goes on with this.
    pub(crate) fn and(mut self, more: String) -> Self {
        self.0.message = format!("{}; {more}", self.0.message);
        self
    }

    /// The error in the headers or trailers of an answer; none where they say that the call has
    /// succeeded.
    pub(crate) fn from_trailers(trailers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| trailers.get(name).map(|value| value.as_bytes());
        let Some(status) = text("grpc-status") else {
            return Some(Self::new(Code::Internal, "the server's answer has no grpc-status"));
        };
        if status == b"0" {
            return None;
        }
        let number = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
        let message = percent_decoded(text("grpc-message").unwrap_or_default());
        let mut error = Self::new(Code::from_number(number.unwrap_or(2)), message);
        if let Some(details) = text("grpc-status-details-bin") {
            error.0.read_details(details);
        }
        if let Some(pushback) = text("grpc-retry-pushback-ms") {
            // A value that is no time means the same as one below 0 (gRFC A6).
            let time = std::str::from_utf8(pushback).ok().and_then(|time| time.parse::<u32>().ok());
            let time = time.map(|time| Duration::from_millis(time.into()));
            error = error.then(time.map_or(Retry::Never, Retry::After));
        }
        Some(error)
    }

    /// Code of the gRPC status.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Reason for programs, such as "SHAPE_MISMATCH"; empty where none was given.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Fields of the request that are wrong, each with a description; may be empty.
    pub fn fields(&self) -> &BTreeMap<String, String> {
        &self.0.fields
    }

    /// Text for people: what was expected and what came.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Time after which the server asks to be tried again; none where it names no time.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0.retry {
            Retry::After(time) => Some(time),
            _ => None,
        }
    }

    /// Whether another try of the same call may succeed: the code is UNAVAILABLE or
    /// RESOURCE_EXHAUSTED, and the server has not said that it would fail again.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.code, Code::Unavailable | Code::ResourceExhausted)
            && self.0.retry != Retry::Never
    }

    pub(crate) fn retry(&self) -> Retry {
        self.0.retry
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.0.code, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(to)
    }
}

impl std::error::Error for Error {}

impl Status {
    /// Reads reason and fields from a `google.rpc.Status` in base64; what cannot be read is left
    /// out.
    fn read_details(&mut self, encoded: &[u8]) {
        let Ok(details) = BASE64.decode(encoded) else { return };
        let Ok(status) = google::Status::decode(&*details) else { return };
        for detail in status.details {
            let kind = detail.type_url.rsplit('/').next();
            if kind == Some("google.rpc.ErrorInfo")
                && let Ok(info) = google::ErrorInfo::decode(detail.value.clone())
            {
                self.reason = info.reason;
            } else if kind == Some("google.rpc.BadRequest")
                && let Ok(request) = google::BadRequest::decode(detail.value)
            {
                let wrong = request.field_violations.into_iter();
                self.fields.extend(wrong.map(|wrong| (wrong.field, wrong.description)));
            }
        }
    }
}

/// The text of a grpc-message. A `%` that begins no byte stays, and bytes that are no UTF-8 are
/// replaced.
fn percent_decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let byte = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        bytes.push(byte.map_or(*first, |(high, low)| 16 * high + low));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| digit.try_into().ok())
}

/// The parts of googleapis' messages that errors are read from.
mod google {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(message, repeated, tag = "3")]
        pub(super) details: Vec<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Any {
        #[prost(string, tag = "1")]
        pub(super) type_url: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) value: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ErrorInfo {
        #[prost(string, tag = "1")]
        pub(super) reason: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct BadRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) field_violations: Vec<FieldViolation>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct FieldViolation {
        #[prost(string, tag = "1")]
        pub(super) field: String,
        #[prost(string, tag = "2")]
        pub(super) description: String,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn trailers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a header's value");
        pairs
            .iter()
            .map(|(name, text)| (http::HeaderName::from_static(name), value(text)))
            .collect()
    }

    fn error(pairs: &[(&'static str, &str)]) -> Error {
        Error::from_trailers(&trailers(pairs)).expect("an error")
    }

    #[test]
    fn status_0_is_no_error_and_no_status_is_one() {
        assert!(Error::from_trailers(&trailers(&[("grpc-status", "0")])).is_none());
        assert_eq!(error(&[]).code(), Code::Internal);
        assert_eq!(error(&[("grpc-status", "99")]).code(), Code::Unknown);
        assert_eq!(error(&[("grpc-status", "x")]).code(), Code::Unknown);
    }

    #[test]
    fn the_names_of_codes_are_in_the_order_of_their_numbers() {
        for (index, (code, name)) in CODES.iter().enumerate() {
            assert_eq!(*code as usize, index + 1);
            assert_eq!(code.name(), *name);
        }
    }

    #[test]
    fn pushback_says_when_to_retry_or_never() {
        let told = |text| error(&[("grpc-status", "8"), ("grpc-retry-pushback-ms", text)]);
        assert_eq!(told("25").retry_after(), Some(Duration::from_millis(25)));
        assert!(told("25").is_retryable());
        assert!(!told("-1").is_retryable());
        assert!(!told("soon").is_retryable());
        assert!(!told("99999999999").is_retryable(), "a month and more is no time to wait");
        assert!(error(&[("grpc-status", "14")]).is_retryable());
        assert!(!error(&[("grpc-status", "4")]).is_retryable());
    }

    #[test]
    fn details_give_reason_and_fields_with_padding_and_without() {
        let any = |kind: &str, value: Vec<u8>| google::Any {
            type_url: format!("type.googleapis.com/google.rpc.{kind}"),
            value: value.into(),
        };
        let info = google::ErrorInfo { reason: "SHAPE_MISMATCH".into() };
        let violation = google::FieldViolation {
            field: "inputs[0].shape".into(),
            description: "expected 2".into(),
        };
        let wrong = google::BadRequest { field_violations: vec![violation] };
        let details = vec![
            any("Help", vec![255]),
            any("ErrorInfo", info.encode_to_vec()),
            any("BadRequest", wrong.encode_to_vec()),
        ];
        let encoded = BASE64.encode(google::Status { details }.encode_to_vec());
        for text in [encoded.as_str(), encoded.trim_end_matches('=')] {
            let error = error(&[("grpc-status", "3"), ("grpc-status-details-bin", text)]);
            assert_eq!(error.reason(), "SHAPE_MISMATCH");
            assert_eq!(error.fields()["inputs[0].shape"], "expected 2");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_read_percent_encoded(text: String) {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(percent_decoded(encoded.as_bytes()), text);
        }

        #[test]
        fn plain_text_is_read_as_it_is(text in "[ -$&-~]*") {
            prop_assert_eq!(percent_decoded(text.as_bytes()), text);
        }

        #[test]
        fn no_trailers_are_too_wrong_to_be_read(
            message in "[!-~]*", details in "[!-~]*", pushback in "[!-~]*"
        ) {
            error(&[
                ("grpc-status", "3"),
                ("grpc-message", &message),
                ("grpc-status-details-bin", &details),
                ("grpc-retry-pushback-ms", &pushback),
            ]);
        }
    }
}
