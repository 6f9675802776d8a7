//! The bodies of requests and replies.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use crate::error::{Dialect, Error};
use crate::memory::{Account, Held};
use crate::shard::{Life, Pending};
use crate::unary::PREFIX;

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
    Tonic(tonic::body::Body, Arc<Account>),
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
    pub fn tonic(body: tonic::body::Body, account: Arc<Account>) -> Self {
        Content::Tonic(body, account).into()
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
            Content::Tonic(body, account) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                let held = |data| account.hold().answer(data);
                Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(held))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Unary { trailers, .. } => trailers.is_none(),
            Content::Tonic(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Unary { .. } => SizeHint::default(),
            Content::Tonic(body, _) => body.size_hint(),
        }
    }
}

/// The body of a request to tonic, which breaks off when the server drains, because an idle stream
/// must not hold up the end, and when there is no room for its messages.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    life: WatchStream<Life>,
    unfinished: Unfinished,
    held: Held,
}

impl RequestBody {
    /// A body whose messages are the account's.
    pub fn new(body: Incoming, account: &Arc<Account>, life: watch::Receiver<Life>) -> Self {
        let (unfinished, held) = (Unfinished::default(), account.hold());
        Self { body, life: WatchStream::new(life), unfinished, held }
    }

    /// Holds what has come of a message that is not whole yet.
    fn hold(&mut self, frame: &[u8]) -> crate::error::Result<()> {
        self.unfinished.read(frame);
        self.held.resize(0);
        if self.unfinished.bytes == 0 {
            self.held.go_on();
            return Ok(());
        }
        self.held.wait();
        self.held.grow(self.unfinished.bytes)
    }
}

/// The bytes of the message that a stream of frames has begun, by gRPC's framing: a flag, the
/// length in four bytes, the message.
#[derive(Debug, Default)]
struct Unfinished {
    prefix: [u8; PREFIX],
    bytes: usize,
}

impl Unfinished {
    fn read(&mut self, mut frame: &[u8]) {
        while !frame.is_empty() {
            let missing = match self.bytes {
                begun @ ..PREFIX => PREFIX - begun,
                begun => PREFIX + self.length() - begun,
            };
            let (now, later) = frame.split_at(missing.min(frame.len()));
            if let Some(place) = self.prefix.get_mut(self.bytes..self.bytes + now.len()) {
                place.copy_from_slice(now);
            }
            self.bytes += now.len();
            if self.bytes >= PREFIX && self.bytes == PREFIX + self.length() {
                self.bytes = 0;
            }
            frame = later;
        }
    }

    fn length(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        u32::from_be_bytes(length) as usize
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
            if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref))
                && let Some(data) = data
                && let Err(error) = self.hold(data)
            {
                return Poll::Ready(Some(Err(error.status(Dialect::Sigmax).into())));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfinished_is_known_wherever_frames_are_cut() {
        let messages: Vec<u8> = [0, 1, 700, 3]
            .iter()
            .flat_map(|&length| {
                let prefix = [&[0][..], &(length as u32).to_be_bytes()].concat();
                [prefix, vec![9; length]].concat()
            })
            .collect();
        for size in [1, 2, 4, 5, 6, 7, 100, 704, 710, messages.len()] {
            let mut unfinished = Unfinished::default();
            let mut most = 0;
            for frame in messages.chunks(size) {
                unfinished.read(frame);
                most = most.max(unfinished.bytes);
            }
            assert_eq!(unfinished.bytes, 0, "all is whole in frames of {size}");
            assert!(most < 705, "{most} in frames of {size}");
        }
    }
}
