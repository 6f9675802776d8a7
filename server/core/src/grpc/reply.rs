//! Replies on their way out over HTTP/2.

use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response};
use http_body::Body;

use crate::grpc::body::Load;

/// A reply's body.
#[derive(Debug)]
pub enum ReplyBody {
    /// No body: the headers say everything.
    Empty,
    /// One framed message and its trailers.
    Unary {
        /// The message, with its prefix.
        message: Bytes,
        /// The trailers that follow the message.
        trailers: HeaderMap,
    },
    /// An answer of tonic.
    Tonic {
        /// The messages and trailers.
        body: tonic::body::Body,
        /// The room that the call holds until it ends.
        load: Arc<Load>,
    },
}

/// A call until its reply is sent: the call is worked on, and then its reply is sent, unless the
/// client gives it up. A call that is given up before its work has begun is not begun.
#[allow(missing_debug_implementations, reason = "it holds a future")]
pub struct Reply {
    respond: SendResponse<Bytes>,
    work: Work,
    is_begun: bool,
}

/// The work that is done for a call. Each kind has a box of its own size, because small boxes are
/// cheap.
enum Work {
    Answering(LocalBoxFuture<'static, Response<ReplyBody>>),
    Sending(LocalBoxFuture<'static, Result<(), h2::Error>>),
}

impl Reply {
    /// A call whose response is made by this work.
    pub fn new(
        respond: SendResponse<Bytes>,
        work: LocalBoxFuture<'static, Response<ReplyBody>>,
    ) -> Self {
        Self { respond, work: Work::Answering(work), is_begun: false }
    }

    fn is_reset(&mut self, context: &mut Context<'_>) -> bool {
        self.respond.poll_reset(context).is_ready()
    }

    /// Sends as much of a response as is at hand. Returns the work that is left because it has to
    /// wait for the client; none where all is sent.
    fn send(&mut self, response: Response<ReplyBody>) -> Result<Option<Work>, h2::Error> {
        let (head, body) = response.into_parts();
        let head = Response::from_parts(head, ());
        match body {
            ReplyBody::Empty => self.respond.send_response(head, true).map(|_| None),
            ReplyBody::Unary { message, trailers } => {
                let mut stream = self.respond.send_response(head, false)?;
                // The message counts in the connection's account until the client has taken it.
                stream.send_data(message, false)?;
                stream.send_trailers(trailers).map(|()| None)
            }
            ReplyBody::Tonic { body, .. } if body.is_end_stream() => {
                self.respond.send_response(head, true).map(|_| None)
            }
            ReplyBody::Tonic { body, load } => {
                let stream = self.respond.send_response(head, false)?;
                Ok(Some(Work::Sending(Box::pin(pipe(body, stream, load)))))
            }
        }
    }

    fn failed(&mut self, error: &h2::Error) {
        tracing::debug!(%error, "a reply could not be sent");
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }
}

impl Future for Reply {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // A reset is looked for before the work begins, and then whenever the work waits: so the
        // call hears of it in any case.
        let was_begun = mem::replace(&mut self.is_begun, true);
        if !was_begun && self.is_reset(context) {
            return Poll::Ready(());
        }
        loop {
            let next = match &mut self.work {
                Work::Answering(work) => match work.as_mut().poll(context) {
                    Poll::Ready(response) => self.send(response),
                    Poll::Pending if was_begun && self.is_reset(context) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                },
                Work::Sending(work) => ready!(work.as_mut().poll(context)).map(|()| None),
            };
            match next {
                Ok(Some(work)) => self.work = work,
                Ok(None) => return Poll::Ready(()),
                Err(error) => {
                    self.failed(&error);
                    return Poll::Ready(());
                }
            }
        }
    }
}

/// Sends a body as fast as the client takes it.
async fn pipe(
    body: tonic::body::Body,
    mut stream: SendStream<Bytes>,
    load: Arc<Load>,
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
            // The client has given the call up.
            None => return Ok(()),
        };
        match frame.into_data() {
            Ok(data) => stream.send_data(load.account().hold().reply(data), false)?,
            Err(frame) => return stream.send_trailers(frame.into_trailers().unwrap_or_default()),
        }
    }
}

/// Waits until the client takes more bytes. Returns whether it will take any.
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
