//! Replies on their way out over HTTP/2.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response};
use http_body::Body;

use crate::body::Load;
use crate::memory::Account;

/// A reply's body.
#[derive(Debug)]
pub enum ReplyBody {
    /// None at all: the headers say everything.
    Empty,
    /// One framed message and its trailers.
    Unary {
        /// The message, with its prefix.
        message: Bytes,
        /// What follows it.
        trailers: HeaderMap,
    },
    /// Whatever tonic answers.
    Tonic {
        /// Its messages and trailers.
        body: tonic::body::Body,
        /// What the call holds until it ends.
        load: Arc<Load>,
    },
}

/// Works on a call's reply and sends it, unless the client gives the call up before.
///
/// A call that is given up before it has begun is not begun.
pub async fn respond(
    mut respond: SendResponse<Bytes>,
    work: impl Future<Output = Response<ReplyBody>>,
) {
    let mut work = pin!(work);
    let mut is_begun = false;
    let response = poll_fn(|context| {
        if !is_begun && respond.poll_reset(context).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(response) = work.as_mut().poll(context) {
            return Poll::Ready(Some(response));
        }
        // Before the first time it has been looked at above.
        let is_reset = is_begun && respond.poll_reset(context).is_ready();
        is_begun = true;
        if is_reset { Poll::Ready(None) } else { Poll::Pending }
    });
    if let Some(response) = response.await
        && let Err(error) = send(&mut respond, response).await
    {
        tracing::debug!(%error, "a reply could not be sent");
        respond.send_reset(Reason::INTERNAL_ERROR);
    }
}

async fn send(
    respond: &mut SendResponse<Bytes>,
    response: Response<ReplyBody>,
) -> Result<(), h2::Error> {
    let (head, body) = response.into_parts();
    let head = Response::from_parts(head, ());
    match body {
        ReplyBody::Empty => respond.send_response(head, true).map(drop),
        ReplyBody::Unary { message, trailers } => {
            let mut stream = respond.send_response(head, false)?;
            // Its memory is the account's until the client has taken it.
            stream.send_data(message, false)?;
            stream.send_trailers(trailers)
        }
        ReplyBody::Tonic { body, .. } if body.is_end_stream() => {
            respond.send_response(head, true).map(drop)
        }
        ReplyBody::Tonic { body, load } => {
            let stream = respond.send_response(head, false)?;
            pipe(body, stream, load.account()).await
        }
    }
}

/// Sends a body as fast as the client takes it.
async fn pipe(
    body: tonic::body::Body,
    mut stream: SendStream<Bytes>,
    account: &Arc<Account>,
) -> Result<(), h2::Error> {
    let mut body = pin!(body);
    loop {
        if !has_room(&mut stream).await? {
            return Ok(());
        }
        let frame = poll_fn(|context| match body.as_mut().poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => stream.poll_reset(context).map(|_| None),
        });
        let frame = match frame.await {
            Some(Some(Ok(frame))) => frame,
            Some(Some(Err(error))) => {
                tracing::debug!(%error, "a reply broke off");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            Some(None) => return stream.send_data(Bytes::new(), true),
            // The client has given it up.
            None => return Ok(()),
        };
        match frame.into_data() {
            Ok(data) => stream.send_data(account.hold().answer(data), false)?,
            Err(frame) => return stream.send_trailers(frame.into_trailers().unwrap_or_default()),
        }
    }
}

/// Waits until the client takes more; whether it does at all.
async fn has_room(stream: &mut SendStream<Bytes>) -> Result<bool, h2::Error> {
    stream.reserve_capacity(1);
    poll_fn(|context| {
        while stream.capacity() == 0 {
            match stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(false)),
                Poll::Pending => return stream.poll_reset(context).map_ok(|_| false),
            }
        }
        Poll::Ready(Ok(true))
    })
    .await
}
