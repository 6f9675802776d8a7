//! The bodies of requests to tonic.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;

use crate::error::{Dialect, Error};
use crate::incoming::Incoming;
use crate::memory::{Account, Held};
use crate::shard::Life;
use crate::unary::PREFIX;

/// The body of a request to tonic, which breaks off when the server drains, because an idle stream
/// must not hold up the end, and when there is no room for its messages.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    life: WatchStream<Life>,
    dialect: Dialect,
    unfinished: Unfinished,
    held: Held,
}

impl RequestBody {
    /// A body whose messages are the account's.
    pub fn new(
        body: Incoming,
        account: &Arc<Account>,
        life: watch::Receiver<Life>,
        dialect: Dialect,
    ) -> Self {
        let (unfinished, held) = (Unfinished::default(), account.hold());
        Self { body, life: WatchStream::new(life), dialect, unfinished, held }
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
                return Poll::Ready(Some(Err(error.status(self.dialect).into())));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        while let Poll::Ready(life) = Pin::new(&mut self.life).poll_next(context) {
            if life != Some(Life::Serving) {
                let status = Error::Draining.status(self.dialect);
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
