//! gRPC's framing of a unary call over HTTP/2, for the two hot calls.
//!
//! Specification: "gRPC over HTTP2", and the status codes of "Status codes and their use in gRPC".

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tonic::Code;

use crate::error::{Dialect, Error, Result};
use crate::grpc::budget::Held;
use crate::grpc::message::{Content, Encoding, Parcel, Received};
use crate::grpc::reply::ReplyBody;
use crate::metrics::{Outcome, Refusal};
use crate::scheduler::batch::panic_text;

pub mod body;
pub mod budget;
pub mod incoming;
pub mod message;
pub mod reply;
pub mod wire;

/// Compressed flag and length, before every message.
pub const PREFIX: usize = 5;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,deflate");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Which compression a call's messages have.
pub const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// When a call began, and when its answer is of no more use.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// When its headers came.
    pub arrived: Instant,
    /// Since when only the server was waited for: `arrived`, and later by the time for which the
    /// client kept the rest of its message back.
    pub ready: Instant,
    /// By the header `grpc-timeout`.
    pub deadline: Option<Instant>,
    /// By the header `grpc-encoding`.
    pub encoding: Encoding,
}

impl Call {
    /// One of a stream.
    pub fn now() -> Self {
        let now = Instant::now();
        Self { arrived: now, ready: now, deadline: None, encoding: Encoding::Identity }
    }
}

/// Why a call is refused by its head alone.
#[derive(Debug)]
pub enum Refused {
    /// It is no gRPC call at all.
    NotGrpc,
    /// It is one that cannot be answered. Boxed because every call carries room for it.
    Call(Box<Error>),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Call(error.into())
    }
}

/// Reads a call's head; apart from `answer`, so that the head is not carried along.
pub fn head<B>(request: &Request<B>, arrived: Instant) -> Result<Call, Refused> {
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
    Ok(Call { arrived, ready: arrived, deadline, encoding })
}

/// How much metadata there is, in bytes as HTTP/2 counts them (RFC 9113, section 6.5.2).
pub fn metadata_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// The header `grpc-encoding`.
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

/// Answers one call: reads its one message, has it handled, and frames the reply, which the
/// handler leaves `PREFIX` bytes for. The message is of at most `limit` bytes; `held` counts what
/// the call holds until its answer has left, with what the handler allocates by the message's word.
/// Never fails: every failure is an answer. Also says how it went, for the metrics.
pub async fn answer<B, M, H>(
    head: Result<Call, Refused>,
    body: B,
    dialect: Dialect,
    limit: usize,
    mut held: Held,
    handle: H,
) -> (Response<ReplyBody>, Outcome)
where
    B: http_body::Body<Data = Bytes> + Unpin,
    M: Content,
    H: AsyncFnOnce(M, Call, &mut Held) -> Result<BytesMut>,
{
    let result = match head {
        Err(Refused::NotGrpc) => {
            let mut response = Response::new(ReplyBody::Empty);
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return (response, Outcome { code: Code::Unknown, refusal: None });
        }
        Err(Refused::Call(error)) => Err(*error),
        // A panic ends this call alone.
        Ok(call) => AssertUnwindSafe(work(call, body, limit, &mut held, handle))
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| {
                tracing::error!("a request {}", panic_text(&*panic));
                Err(Error::Internal)
            }),
    };
    match result.and_then(within_limit) {
        Ok(message) => (succeeded(held.answer(frame(message))), Outcome::OK),
        Err(error) => (failed(&error, dialect), Outcome::of(&error, dialect)),
    }
}

async fn work<B, M, H>(
    mut call: Call,
    body: B,
    limit: usize,
    held: &mut Held,
    handle: H,
) -> Result<BytesMut>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    M: Content,
    H: AsyncFnOnce(M, Call, &mut Held) -> Result<BytesMut>,
{
    let read = read(body, call.encoding, limit, held);
    let (parcel, kept_back) = match call.deadline {
        // Makes a timer only where the message is not there yet.
        Some(deadline) => tokio::time::timeout_at(deadline.into(), read)
            .await
            .unwrap_or(Err(Error::DeadlineExceeded))?,
        None => read.await?,
    };
    call.ready += kept_back;
    held.go_on();
    held.work();
    let message = parcel.open(held).await?;
    handle(message, call, held).await
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

/// The header `grpc-timeout`: one to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
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

/// Reads the call's one message, and tells for how long it had to wait for the rest of it. Its memory
/// grows with the bytes that came, never with the length announced.
async fn read<B>(
    mut body: B,
    encoding: Encoding,
    limit: usize,
    held: &mut Held,
) -> Result<(Parcel, Duration)>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut received = Received::default();
    let mut whole = None;
    let mut kept_back = Duration::ZERO;
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                held.wait();
                let since = Instant::now();
                let frame = body.frame().await;
                kept_back += since.elapsed();
                frame
            }
        };
        let Some(frame) = frame else { break };
        let Ok(frame) = frame else {
            return Err(Error::Malformed { detail: "the call was broken off".into() });
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        held.grow(data.len())?;
        received.push(data);
        if whole.is_none() && received.remaining() >= PREFIX {
            whole = Some(PREFIX + received.prefix(limit)?.1);
        }
        if whole.is_some_and(|whole| received.remaining() > whole) {
            let detail = "expected one message in a unary call, got more";
            return Err(Error::Unimplemented { detail: detail.into() });
        }
        if body.is_end_stream() {
            break;
        }
    }
    match whole {
        Some(whole) if received.remaining() == whole => {
            Ok((Parcel::new(received, encoding, limit)?, kept_back))
        }
        Some(whole) => Err(Error::Malformed {
            detail: format!(
                "expected a message of {} bytes, got {} before the end of the stream",
                whole - PREFIX,
                received.remaining() - PREFIX
            ),
        }),
        None => {
            let detail = "expected one message in a unary call, got none";
            Err(Error::Unimplemented { detail: detail.into() })
        }
    }
}

/// An answer that clients can read: their libraries count in 32 bits with a sign.
pub fn within_limit(reply: BytesMut) -> Result<BytesMut> {
    let limit = i32::MAX as usize;
    match reply.len().saturating_sub(PREFIX) {
        found if found > limit => Err(Error::ReplyTooLarge { found, limit }),
        _ => Ok(reply),
    }
}

/// Fills in the prefix of a message.
fn frame(mut message: BytesMut) -> BytesMut {
    let prefix = prefix_of(message.len() - PREFIX);
    message[..PREFIX].copy_from_slice(&prefix);
    message
}

/// The prefix of a message of this length, not compressed.
fn prefix_of(length: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [0, a, b, c, d]
}

/// The same, apart from its message.
pub fn prefix(length: usize) -> Bytes {
    Bytes::copy_from_slice(&prefix_of(length))
}

fn succeeded(message: Bytes) -> Response<ReplyBody> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(ReplyBody::Unary { message, trailers });
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// Trailers only: one block of headers, and no body.
pub fn failed(error: &Error, dialect: Dialect) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Empty);
    *response.headers_mut() = match Refusal::of(error) {
        Some(_) => refused_head(error, dialect),
        None => failed_head(error, dialect),
    };
    response
}

/// Kept for the next: in an overload refusals are alike, and their cost is taken from the answers.
fn refused_head(error: &Error, dialect: Dialect) -> HeaderMap {
    thread_local! {
        static LAST: RefCell<Option<(Error, Dialect, HeaderMap)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((before, of, head)) if before == error && *of == dialect => head.clone(),
        _ => last.insert((error.clone(), dialect, failed_head(error, dialect))).2.clone(),
    })
}

fn failed_head(error: &Error, dialect: Dialect) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, GRPC);
    if matches!(error, Error::Unimplemented { .. }) {
        headers.insert(ACCEPT_ENCODING, ENCODINGS);
    }
    if error.status(dialect).add_header(&mut headers).is_err() {
        headers.insert(GRPC_STATUS, HeaderValue::from(Code::Internal as i32));
    }
    headers
}

#[cfg(test)]
mod tests;
