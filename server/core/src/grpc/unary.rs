//! A unary call from its one message to its answer, for the two hot calls.
//!
//! Specification: "gRPC over HTTP2", and the status codes of "Status codes and their use in gRPC".

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use tonic::Code;

use crate::error::{Dialect, Error, Result};
use crate::grpc::budget::Held;
use crate::grpc::head::{Call, Refused};
use crate::grpc::message::{
    Content, Encoding, PREFIX, PackedMessage, Received, frame, within_limit,
};
use crate::grpc::reply::ReplyBody;
use crate::grpc::response::{failed, succeeded};
use crate::metrics::outcome::Outcome;
use crate::panics::panic_text;

/// Answers one call: reads its one message, has it handled, and fills in the prefix of the reply,
/// for which the handler leaves `PREFIX` bytes. The message has at most `limit` bytes. `held`
/// counts what the call holds until its answer has left, and what the handler allocates because the
/// message says so. Every failure is an answer, too. Returns the response, and the outcome for the
/// metrics.
pub async fn serve<B, M, H>(
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
        Ok(message) => (succeeded(held.reply(frame(message))), Outcome::OK),
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
    let (packed, kept_back) = match call.deadline {
        // A timer is registered only where the message is not there yet.
        Some(deadline) => tokio::time::timeout_at(deadline.into(), read)
            .await
            .unwrap_or(Err(Error::DeadlineExceeded))?,
        None => read.await?,
    };
    call.ready += kept_back;
    held.go_on();
    held.work();
    let message = packed.open(held).await?;
    handle(message, call, held).await
}

/// Reads the call's one message. Returns it with the time for which the client kept parts of it
/// back. Memory grows with the bytes that came, never with the length announced.
async fn read<B>(
    mut body: B,
    encoding: Encoding,
    limit: usize,
    held: &mut Held,
) -> Result<(PackedMessage, Duration)>
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
            Ok((PackedMessage::new(received, encoding, limit)?, kept_back))
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

#[cfg(test)]
mod tests;
