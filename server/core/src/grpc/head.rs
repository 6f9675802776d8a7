//! The head of a call, read from gRPC's headers.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};

use crate::error::{Error, Result};
use crate::grpc::message::{Encoding, PREFIX};

/// The header that names the compression of a call's messages.
pub const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The head of a call: its times, its compression, and what its answer begins with.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The time at which the call's headers came.
    pub arrived: Instant,
    /// The time since which only the server was waited for: `arrived`, and later by the time for
    /// which the client kept the rest of its message back.
    pub ready: Instant,
    /// The time at which the answer is of no more use, by the header `grpc-timeout`; none: never.
    pub deadline: Option<Instant>,
    /// The compression of the messages, by the header `grpc-encoding`.
    pub encoding: Encoding,
    /// The bytes that the answer begins with: room for gRPC's prefix, or those that every answer of
    /// a stream begins with.
    pub reply_head: &'static [u8],
}

impl Call {
    /// The head of one request of a stream, whose answer begins with these bytes. The request has
    /// no deadline, and came decompressed.
    pub fn of_stream(reply_head: &'static [u8]) -> Self {
        let now = Instant::now();
        Self { arrived: now, ready: now, deadline: None, encoding: Encoding::Identity, reply_head }
    }
}

/// The reason for which a call is refused by its head alone.
#[derive(Debug)]
pub enum Refused {
    /// The request is no gRPC call at all.
    NotGrpc,
    /// The call cannot be answered. The error is boxed because every call carries room for it.
    Call(Box<Error>),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Call(error.into())
    }
}

/// Reads a call's head. The head is read before the future that answers the call is made, so that
/// the future does not carry it.
pub fn read<B>(request: &Request<B>, arrived: Instant) -> Result<Call, Refused> {
    if !is_grpc(request) {
        return Err(Refused::NotGrpc);
    }
    let headers = request.headers();
    if headers.get(header::TE).is_none_or(|te| te != "trailers") {
        let detail = "expected the header 'te: trailers'; a proxy on the way may not know gRPC";
        return Err(Error::Malformed { detail: detail.into() }.into());
    }
    let encoding = encoding(headers)?;
    let timeout = timeout(headers)?;
    let deadline = timeout.and_then(|timeout| arrived.checked_add(timeout));
    Ok(Call { arrived, ready: arrived, deadline, encoding, reply_head: &[0; PREFIX] })
}

/// The size of a call's metadata, in bytes as HTTP/2 counts them (RFC 9113, section 6.5.2).
pub fn metadata_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// The compression that the header `grpc-encoding` names; an error for an unknown one.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding> {
    match headers.get(&ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(Encoding::Identity),
        Some(b"gzip") => Ok(Encoding::Gzip),
        Some(b"deflate") => Ok(Encoding::Deflate),
        Some(other) => {
            let other = other.escape_ascii();
            let detail = format!("expected grpc-encoding identity, gzip or deflate, got {other}");
            Err(Error::Unimplemented { detail })
        }
    }
}

/// Whether the request is a gRPC call with protobuf messages, as far as its content type says.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let Some(kind) = request.headers().get(header::CONTENT_TYPE) else {
        return false;
    };
    let rest = kind.as_bytes().strip_prefix(b"application/grpc");
    let rest = rest.map(|rest| rest.strip_prefix(b"+proto").unwrap_or(rest));
    request.method() == Method::POST && rest.is_some_and(|rest| matches!(rest, [] | [b';', ..]))
}

/// The time that the header `grpc-timeout` names, by one to eight digits and a unit; none where the
/// header is missing.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(&TIMEOUT) else {
        return Ok(None);
    };
    let malformed = || Error::Malformed {
        detail: format!("grpc-timeout: expected up to 8 digits and one of HMSmun, got {value:?}"),
    };
    let Some((unit, digits)) = value.as_bytes().split_last() else {
        return Err(malformed());
    };
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed());
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Ok(Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(malformed()),
    }))
}
