//! The bodies of requests to tonic.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Request;
use http_body::{Body, Frame};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;

use crate::error::{Dialect, Error, Result};
use crate::grpc::budget::{Account, Held, OpenStream};
use crate::grpc::head::{self, ENCODING};
use crate::grpc::message::{self, Encoding, PREFIX, PackedMessage, Received};
use crate::grpc::wire::{self, Shape};
use crate::lifecycle::Life;

/// Bytes that a call to tonic takes beside what every call takes.
const CALL: usize = 28 << 10;
/// Bytes that a message takes beside its content: a request while it runs, an answer while it
/// waits.
pub const MESSAGE: usize = 2 << 10;
/// Bytes that tonic copies before the loop turns to other clients.
const A_TURN: usize = 2 << 20;
/// The longest message of a call that `proto/` does not know, such as reflection's, in bytes.
const FOREIGN: usize = 1 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The room that a call to tonic holds in the budget, and the way of a stream's messages past tonic.
#[derive(Debug)]
pub struct Load {
    account: Arc<Account>,
    /// The message that was read last and its room, until it is taken over or the next has come. The
    /// message is empty where tonic has its bytes.
    message: Mutex<Option<(Received, Held)>>,
    /// The room of the call itself.
    _call: Held,
    _stream: Option<OpenStream>,
}

impl Load {
    /// The account of the call's connection.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Takes over the message that was read last, and its room; of no bytes where it is taken
    /// already.
    pub fn take(&self) -> (Received, Held) {
        self.put(None).unwrap_or_else(|| (Received::default(), self.account.hold()))
    }

    fn put(&self, message: Option<(Received, Held)>) -> Option<(Received, Held)> {
        mem::replace(&mut *self.message.lock().unwrap_or_else(PoisonError::into_inner), message)
    }
}

/// The body of a request to tonic: its messages one by one, whole and decompressed, and none that
/// would take too much once decoded. The body breaks off when the server drains, because an idle
/// stream must not hold up the end.
#[derive(Debug)]
pub struct RequestBody<B> {
    body: B,
    life: WatchStream<Life>,
    dialect: Dialect,
    encoding: Encoding,
    shape: Option<&'static Shape>,
    limit: usize,
    /// Whether the call takes a stream of messages. Tonic gets an empty message for each, for it
    /// would keep a copy of the last one's bytes as long as the stream is open.
    is_stream: bool,
    /// Whether the one message of the call has yet to come.
    is_waited_for: bool,
    /// The error of a call that is not taken at all, until tonic has got it.
    refused: Option<Error>,
    /// The bytes that have come of messages that are not opened yet; `held` is their room.
    received: Received,
    held: Held,
    /// A message that is opened on another thread.
    opening: Option<JoinHandle<Result<(Received, Held)>>>,
    /// A message on its way to tonic.
    opened: Received,
    /// Bytes of `opened` that tonic has copied in this turn of the loop.
    turn: usize,
    load: Arc<Load>,
}

impl<B> RequestBody<B> {
    /// A request to tonic, and the room that it holds until it is answered: `call`, and what tonic
    /// and the messages take.
    pub fn of(
        mut request: Request<B>,
        mut call: Held,
        life: watch::Receiver<Life>,
        limit: usize,
    ) -> (Request<Self>, Arc<Load>) {
        let (path, account) = (request.uri().path(), call.account().clone());
        let (dialect, kinds) = (Dialect::of(path), wire::of_call(path));
        let is_stream = kinds.is_none_or(|kinds| kinds.stream);
        let (stream, refused) = match is_stream.then(|| account.open_stream()).transpose() {
            Ok(stream) => (stream, None),
            Err(error) => (None, Some(error)),
        };
        let message = Mutex::default();
        call.resize(call.bytes() + CALL);
        let load = Load { account: account.clone(), message, _call: call, _stream: stream };
        let load = Arc::new(load);
        request.extensions_mut().insert(load.clone());
        // An encoding that is unknown is left to tonic, which refuses it.
        let encoding = head::encoding(request.headers()).unwrap_or(Encoding::Identity);
        if encoding != Encoding::Identity {
            request.headers_mut().remove(ENCODING);
        }
        let request = request.map(|body| Self {
            body,
            life: WatchStream::new(life),
            dialect,
            encoding,
            // Messages of a stream are weighed later, when the service opens them.
            shape: kinds.filter(|kinds| kinds.one_message).map(|kinds| kinds.message),
            // Messages of calls that `proto/` does not know are short.
            limit: if kinds.is_some() { limit } else { limit.min(FOREIGN) },
            is_stream: kinds.is_some_and(|kinds| !kinds.one_message),
            is_waited_for: kinds.is_some_and(|kinds| kinds.one_message),
            refused,
            received: Received::default(),
            held: account.hold(),
            opening: None,
            opened: Received::default(),
            turn: 0,
            load: load.clone(),
        });
        (request, load)
    }

    /// Begins to open the next message, if it has come whole. Returns whether it has.
    fn open_next(&mut self) -> Result<bool> {
        if self.received.remaining() < PREFIX {
            return Ok(false);
        }
        let size = PREFIX + self.received.prefix(self.limit)?.1;
        if self.received.remaining() < size {
            return Ok(false);
        }
        let packed = PackedMessage::new(self.received.split_to(size), self.encoding, self.limit)?;
        let mut held = self.held.split(size);
        held.resize(size + MESSAGE);
        held.work();
        match packed.open_here(self.shape, &mut held, Ok) {
            Ok(message) => self.hand_over(message?, held),
            Err(packed) => {
                self.opening = Some(packed.open_elsewhere(self.shape, held, Ok));
            }
        }
        Ok(true)
    }

    /// Gives a message to tonic behind a new prefix, because the message is decompressed now.
    fn hand_over(&mut self, message: Received, held: Held) {
        self.is_waited_for = false;
        let (to_tonic, past_tonic) = match self.is_stream {
            true => (Received::default(), message),
            false => (message, Received::default()),
        };
        self.opened.push(message::prefix(to_tonic.remaining()));
        self.opened.append(to_tonic);
        self.load.put(Some((past_tonic, held)));
    }
}

impl<B> RequestBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let refused = |body: &Self, error: Error| Some(Err(error.status(body.dialect).into()));
        if let Some(error) = self.refused.take() {
            return Poll::Ready(refused(self, error));
        }
        loop {
            if self.turn >= A_TURN {
                self.turn = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(frame) = self.opened.pop(A_TURN) {
                self.turn += frame.len();
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if let Some(opening) = &mut self.opening {
                let opened = ready!(Pin::new(opening).poll(context));
                self.opening = None;
                match opened.map_err(Error::from).flatten() {
                    Ok((message, held)) => self.hand_over(message, held),
                    Err(error) => return Poll::Ready(refused(self, error)),
                }
                continue;
            }
            match self.open_next() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return Poll::Ready(refused(self, error)),
            }
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    if self.received.has_remaining() || self.is_waited_for {
                        self.held.wait();
                    }
                    return Poll::Pending;
                }
            };
            self.held.go_on();
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => match self.held.grow(data.len()) {
                    Ok(()) => self.received.push(data),
                    Err(error) => return Poll::Ready(refused(self, error)),
                },
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None if self.received.has_remaining() => {
                    let came = self.received.remaining();
                    self.received = Received::default();
                    let detail = format!(
                        "expected a whole message, got {came} bytes of one before the end of the stream"
                    );
                    return Poll::Ready(refused(self, Error::Malformed { detail }));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = self.poll_next(context) {
            return Poll::Ready(frame);
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
        if self.refused.is_some() {
            return false;
        }
        let is_empty = !self.opened.has_remaining() && !self.received.has_remaining();
        is_empty && self.opening.is_none() && self.body.is_end_stream()
    }
}
