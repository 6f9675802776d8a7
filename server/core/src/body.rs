//! The bodies of requests and replies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use crate::error::{Dialect, Error};
use crate::shard::{Life, Pending};

/// A reply's body, and the proof that it is not sent yet.
#[derive(Debug)]
pub struct ReplyBody {
    content: Content,
    /// Held until the reply is handed over whole.
    pub pending: Option<Pending>,
}

#[derive(Debug)]
enum Content {
    Empty,
    Unary { message: Option<Bytes>, trailers: Option<HeaderMap> },
    Tonic(tonic::body::Body),
}

impl ReplyBody {
    /// None at all: the headers say everything.
    pub fn empty() -> Self {
        Content::Empty.into()
    }

    /// One framed message and its trailers.
    pub fn unary(message: Bytes, trailers: HeaderMap) -> Self {
        Content::Unary { message: Some(message), trailers: Some(trailers) }.into()
    }

    /// Whatever tonic answers.
    pub fn tonic(body: tonic::body::Body) -> Self {
        Content::Tonic(body).into()
    }
}

impl From<Content> for ReplyBody {
    fn from(content: Content) -> Self {
        Self { content, pending: None }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Unary { message, trailers } => {
                let data = message.take().map(Frame::data);
                Poll::Ready(data.or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
            Content::Tonic(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Unary { trailers, .. } => trailers.is_none(),
            Content::Tonic(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Unary { .. } => SizeHint::default(),
            Content::Tonic(body) => body.size_hint(),
        }
    }
}

/// The body of a request to tonic, which breaks off when the server drains: an idle stream must
/// not hold up the end.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    life: WatchStream<Life>,
}

impl RequestBody {
    /// Breaks off when the server drains.
    pub fn new(body: Incoming, life: watch::Receiver<Life>) -> Self {
        Self { body, life: WatchStream::new(life) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        while let Poll::Ready(life) = Pin::new(&mut self.life).poll_next(context) {
            if life != Some(Life::Serving) {
                let status = Error::Draining.status(Dialect::Sigmax);
                return Poll::Ready(Some(Err(status.into())));
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
