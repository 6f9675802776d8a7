//! gRPC's framing of a unary call over HTTP/2, for the two hot calls.
//!
//! Specification: "gRPC over HTTP2", and the status codes of "Status codes and their use in gRPC".

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use prost::Message;
use tonic::Code;

use crate::batch::panic_text;
use crate::body::ReplyBody;
use crate::error::{Dialect, Error, Result};
use crate::memory::{Account, Held};
use crate::metrics::{Outcome, Refusal};

/// Compressed flag and length, before every message.
pub const PREFIX: usize = 5;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,deflate");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// As `grpc-status` has it.
const OUT_OF_RANGE: &str = "11";
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
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

/// How a message that has the compressed flag is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// zlib, RFC 1950.
    Deflate,
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
    let encoding = match headers.get(&ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Encoding::Identity,
        Some(b"gzip") => Encoding::Gzip,
        Some(b"deflate") => Encoding::Deflate,
        Some(other) => {
            let other = other.escape_ascii();
            let detail = format!("expected grpc-encoding identity, gzip or deflate, got {other}");
            return Err(Error::Unimplemented { detail }.into());
        }
    };
    let timeout = timeout(headers)?;
    let deadline = timeout.and_then(|timeout| arrived.checked_add(timeout));
    Ok(Call { arrived, ready: arrived, deadline, encoding })
}

/// What a call's messages may hold.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    /// The longest message, in bytes.
    pub message: usize,
    /// What the connection holds.
    pub account: &'a Arc<Account>,
}

/// Answers one call: reads its one message, has it handled, and frames the reply, which the
/// handler leaves `PREFIX` bytes for. Never fails: every failure is an answer. Also says how it
/// went, for the metrics.
pub async fn answer<B, H, F>(
    head: Result<Call, Refused>,
    body: B,
    dialect: Dialect,
    room: Room<'_>,
    handle: H,
) -> (Response<ReplyBody>, Outcome)
where
    B: http_body::Body<Data = Bytes> + Unpin,
    H: FnOnce(Received, Call) -> F,
    F: Future<Output = Result<BytesMut>>,
{
    let mut held = room.account.hold();
    let result = match head {
        Err(Refused::NotGrpc) => {
            let mut response = Response::new(ReplyBody::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return (response, Outcome { code: Code::Unknown, refusal: None });
        }
        Err(Refused::Call(error)) => Err(*error),
        // A panic ends this call alone.
        Ok(call) => AssertUnwindSafe(work(call, body, room.message, &mut held, handle))
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

async fn work<B, H, F>(
    mut call: Call,
    body: B,
    limit: usize,
    held: &mut Held,
    handle: H,
) -> Result<BytesMut>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    H: FnOnce(Received, Call) -> F,
    F: Future<Output = Result<BytesMut>>,
{
    let read = read(body, call.encoding, limit, held);
    let (message, kept_back) = match call.deadline {
        // Makes a timer only where the message is not there yet.
        Some(deadline) => tokio::time::timeout_at(deadline.into(), read)
            .await
            .unwrap_or(Err(Error::DeadlineExceeded))?,
        None => read.await?,
    };
    call.ready += kept_back;
    held.go_on();
    handle(message, call).await
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
) -> Result<(Received, Duration)>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut received = Received::default();
    let mut compressed = false;
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
            let (is_compressed, length) = received.prefix(limit)?;
            compressed = is_compressed;
            whole = Some(PREFIX + length);
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
            received.advance(PREFIX);
            if !compressed {
                return Ok((received, kept_back));
            }
            let message = received.decompressed(encoding, limit)?;
            held.grow(message.remaining())?;
            Ok((message, kept_back))
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

/// A message's bytes as they came, in one or more frames.
#[derive(Debug, Default)]
pub struct Received {
    /// Read next; empty only where nothing is left.
    first: Bytes,
    later: VecDeque<Bytes>,
    /// Of all frames together, in bytes.
    size: usize,
}

impl Received {
    fn push(&mut self, frame: Bytes) {
        self.size += frame.len();
        if self.first.is_empty() {
            self.first = frame;
        } else if !frame.is_empty() {
            self.later.push_back(frame);
        }
    }

    /// Reads the prefix, without taking it: whether the message is compressed, and its length,
    /// checked against the limit.
    fn prefix(&self, limit: usize) -> Result<(bool, usize)> {
        let mut prefix = [0; PREFIX];
        let bytes = self.first.iter().chain(self.later.iter().flatten());
        prefix.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let [flag, length @ ..] = prefix;
        if flag > 1 {
            let detail = format!("compressed flag: expected 0 or 1, got {flag}");
            return Err(Error::Malformed { detail });
        }
        let found = u32::from_be_bytes(length) as usize;
        if found > limit {
            return Err(Error::MessageTooLarge { found, limit });
        }
        Ok((flag == 1, found))
    }

    /// The message as it was before it was compressed. Its memory grows with what comes out, up to
    /// the limit.
    fn decompressed(self, encoding: Encoding, limit: usize) -> Result<Self> {
        let mut message = Vec::new();
        // One byte more, to tell a message of just the limit from a longer one.
        let most = limit as u64 + 1;
        let read = match encoding {
            Encoding::Identity => {
                let detail = "expected no compressed message without the header grpc-encoding";
                return Err(Error::Malformed { detail: detail.into() });
            }
            Encoding::Gzip => {
                MultiGzDecoder::new(self.reader()).take(most).read_to_end(&mut message)
            }
            Encoding::Deflate => {
                ZlibDecoder::new(self.reader()).take(most).read_to_end(&mut message)
            }
        };
        read.map_err(|error| Error::Malformed {
            detail: format!("expected a message compressed by {encoding:?}: {error}"),
        })?;
        if message.len() > limit {
            return Err(Error::MessageTooLarge { found: message.len(), limit });
        }
        Ok(Self { size: message.len(), first: message.into(), later: VecDeque::new() })
    }

    /// The message. Byte fields share the frames' memory; only one that spans frames is copied.
    pub fn decode<M: Message + Default>(self) -> Result<M> {
        let decoded = match self.later.is_empty() {
            true => M::decode(self.first),
            false => M::decode(self),
        };
        decoded.map_err(|error| Error::Malformed { detail: error.to_string() })
    }
}

impl Buf for Received {
    fn remaining(&self) -> usize {
        self.size
    }

    fn chunk(&self) -> &[u8] {
        &self.first
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.size, "advanced by {count} bytes of {}", self.size);
        self.size -= count;
        while count >= self.first.len() && count > 0 {
            count -= self.first.len();
            self.first = self.later.pop_front().unwrap_or_default();
        }
        self.first.advance(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        if count <= self.first.len() {
            let bytes = self.first.slice(..count);
            self.advance(count);
            return bytes;
        }
        let mut bytes = BytesMut::with_capacity(count);
        while bytes.len() < count {
            let part = self.first.len().min(count - bytes.len());
            bytes.put_slice(&self.first[..part]);
            self.advance(part);
        }
        bytes.freeze()
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
    let length = (message.len() - PREFIX) as u32;
    message[..PREFIX].copy_from_slice(&[0; PREFIX]);
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message
}

fn succeeded(message: Bytes) -> Response<ReplyBody> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(ReplyBody::unary(message, trailers));
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// Trailers only: one block of headers, and no body.
fn failed(error: &Error, dialect: Dialect) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::empty());
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

/// Has a call by tonic that is refused for its size say so as the hot calls do: tonic calls it
/// OUT_OF_RANGE, which nothing else here is.
pub fn say_too_large(headers: &mut HeaderMap) {
    if headers.get(&GRPC_STATUS).is_some_and(|code| code == OUT_OF_RANGE) {
        headers.insert(GRPC_STATUS, HeaderValue::from(Code::ResourceExhausted as i32));
    }
}

#[cfg(test)]
mod tests;
