//! One message, whole, as it came: decompressed, weighed, and only then decoded.
//!
//! A message that takes much time is opened on another thread, because other clients wait for the
//! event loop.

use std::collections::VecDeque;
use std::io::Read;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::error::{Error, Result};
use crate::grpc::budget::Held;
use crate::grpc::wire::{self, Effort, Shape, weigh};
use crate::proto::inference::ModelInferRequest;
use crate::proto::sigmax::{ClassifyRequest, ClassifyStreamRequest};

/// Bytes of the prefix before every message: the compressed flag and the length.
pub const PREFIX: usize = 5;
/// The most bytes, packed and unpacked, of a compressed message that is unpacked in the loop.
const LITTLE: usize = 64 << 10;
/// The most bytes of a message that is not weighed: decoded, it holds at most some hundred times as
/// much.
const UNWEIGHED: usize = 1 << 10;
/// The most fields, and the most bytes that are read one by one, of a message that is weighed in
/// the loop.
const AT_ONCE: Effort = Effort { fields: 1024, work: 4 * LITTLE };
/// The most bytes of a message in several frames that is decoded in the loop. There is a limit
/// because fields that span frames are copied.
const COPIED: usize = 4 << 20;
/// The most bytes of elements that are read one by one in the loop, when a request is checked.
pub const READ: usize = 1 << 20;
/// Bytes of the pieces in which a message is unpacked: room in the budget is asked for after each.
const PIECE: usize = 1 << 20;

/// The compression of a message that has the compressed flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// No compression.
    Identity,
    /// gzip, RFC 1952.
    Gzip,
    /// zlib, RFC 1950.
    Deflate,
}

/// A message's bytes as they came, in one or more frames.
#[derive(Debug, Default)]
pub struct Received {
    /// The frame that is read next; empty only where nothing is left.
    first: Bytes,
    later: VecDeque<Bytes>,
    /// Bytes of all frames together.
    size: usize,
}

impl Received {
    /// Adds the frame that came next.
    pub fn push(&mut self, frame: Bytes) {
        self.size += frame.len();
        if self.first.is_empty() {
            self.first = frame;
        } else if !frame.is_empty() {
            self.later.push_back(frame);
        }
    }

    /// Reads the prefix, without taking it: whether the message is compressed, and its length,
    /// checked against the limit.
    pub fn prefix(&self, limit: usize) -> Result<(bool, usize)> {
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

    /// Takes the first `count` bytes, which there must be.
    pub fn split_to(&mut self, count: usize) -> Self {
        let mut front = Self::default();
        while front.size < count {
            let part = self.first.len().min(count - front.size);
            front.push(self.first.slice(..part));
            self.advance(part);
        }
        front
    }

    /// Adds another's frames.
    pub fn append(&mut self, mut other: Self) {
        while let Some(frame) = other.pop(usize::MAX) {
            self.push(frame);
        }
    }

    /// Takes the next bytes, at most `most`; none where nothing is left.
    pub fn pop(&mut self, most: usize) -> Option<Bytes> {
        let frame = self.first.slice(..self.first.len().min(most));
        self.advance(frame.len());
        (!frame.is_empty()).then_some(frame)
    }

    /// A reader of the bytes that does not take them.
    fn peek(&self) -> Peek<'_> {
        Peek { chunk: &self.first, later: self.later.iter(), left: self.size }
    }

    /// The decoded message. Byte fields share the frames' memory; only one that spans frames is
    /// copied.
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

/// A reader of a message that stays where it is.
struct Peek<'a> {
    chunk: &'a [u8],
    later: std::collections::vec_deque::Iter<'a, Bytes>,
    left: usize,
}

impl Buf for Peek<'_> {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.chunk
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.left, "advanced by {count} bytes of {}", self.left);
        self.left -= count;
        while count >= self.chunk.len() && count > 0 {
            count -= self.chunk.len();
            self.chunk = self.later.next().map_or(&[], |frame| frame);
        }
        self.chunk.advance(count);
    }
}

/// A value that is made of a message's bytes.
pub trait Content: Sized + Send + 'static {
    /// The shape by which messages of this kind are weighed; none: they are not.
    fn shape() -> Option<&'static Shape>;

    /// Makes the value of the bytes of one message.
    fn read(message: Received) -> Result<Self>;
}

impl Content for ClassifyRequest {
    fn shape() -> Option<&'static Shape> {
        Some(&wire::SIGMAX_V1_CLASSIFYREQUEST)
    }

    fn read(message: Received) -> Result<Self> {
        message.decode()
    }
}

impl Content for ModelInferRequest {
    fn shape() -> Option<&'static Shape> {
        Some(&wire::INFERENCE_MODELINFERREQUEST)
    }

    fn read(message: Received) -> Result<Self> {
        message.decode()
    }
}

impl Content for ClassifyStreamRequest {
    fn shape() -> Option<&'static Shape> {
        Some(&wire::SIGMAX_V1_CLASSIFYSTREAMREQUEST)
    }

    fn read(message: Received) -> Result<Self> {
        message.decode()
    }
}

/// A message's bytes as they are.
impl Content for Received {
    fn shape() -> Option<&'static Shape> {
        None
    }

    fn read(message: Received) -> Result<Self> {
        Ok(message)
    }
}

/// A message that is not opened yet.
#[derive(Debug)]
pub struct PackedMessage {
    bytes: Received,
    /// The compression of `bytes`; Identity where the message has no compressed flag.
    encoding: Encoding,
    /// The most bytes that the message may have once it is unpacked.
    limit: usize,
}

impl PackedMessage {
    /// A message that came with its prefix, in a call with this encoding.
    pub fn new(mut bytes: Received, encoding: Encoding, limit: usize) -> Result<Self> {
        let (compressed, _) = bytes.prefix(limit)?;
        bytes.advance(PREFIX);
        match (compressed, encoding) {
            (true, Encoding::Identity) => {
                let detail = "expected no compressed message without the header grpc-encoding";
                Err(Error::Malformed { detail: detail.into() })
            }
            (true, encoding) => Ok(Self { bytes, encoding, limit }),
            (false, _) => Ok(Self { bytes, encoding: Encoding::Identity, limit }),
        }
    }

    /// A message of a stream, decompressed and without its prefix.
    pub fn unpacked(bytes: Received) -> Self {
        Self { bytes, encoding: Encoding::Identity, limit: usize::MAX }
    }

    /// The content of the message. `held` takes room for what the content takes beside the bytes
    /// that came.
    pub async fn open<T: Content>(self, held: &mut Held) -> Result<T> {
        match self.open_here(T::shape(), held, T::read) {
            Ok(content) => content,
            // The future is boxed because it is rare, and all calls would carry it.
            Err(packed) => {
                Box::pin(async {
                    let (content, more) =
                        packed.open_elsewhere(T::shape(), held.beside(), T::read).await??;
                    held.join(more);
                    Ok(content)
                })
                .await
            }
        }
    }

    /// Opens the message at once, or hands it back, as the outer error, where that is too much for
    /// a turn of the loop.
    pub fn open_here<T>(
        self,
        shape: Option<&'static Shape>,
        held: &mut Held,
        read: fn(Received) -> Result<T>,
    ) -> Result<Result<T>, Self> {
        let bytes = match self.encoding {
            Encoding::Identity => None,
            encoding if self.bytes.size <= LITTLE => {
                let mut more = held.beside();
                match unpacked(encoding, self.bytes.peek(), LITTLE, &mut more) {
                    Ok(Some(bytes)) if bytes.size <= self.limit => {
                        held.join(more);
                        Some(bytes)
                    }
                    Ok(_) => return Err(self),
                    Err(error) => return Ok(Err(error)),
                }
            }
            _ => return Err(self),
        };
        let message = bytes.as_ref().unwrap_or(&self.bytes);
        if !message.later.is_empty() && message.size > COPIED {
            return Err(self);
        }
        if let Some(shape) = shape
            && message.size > UNWEIGHED
        {
            let weight = match message.later.is_empty() {
                true => weigh(shape, &message.first[..], AT_ONCE),
                false => weigh(shape, message.peek(), AT_ONCE),
            };
            let Some(weight) = weight else {
                return Err(self);
            };
            if let Err(error) = weight.within_limits().and_then(|weight| held.unfold(weight.bytes))
            {
                return Ok(Err(error));
            }
        }
        Ok(read(bytes.unwrap_or(self.bytes)))
    }

    /// Opens the message on another thread. `held` takes room for what the content takes beside the
    /// bytes that came, and is handed back with it.
    pub fn open_elsewhere<T: Send + 'static>(
        self,
        shape: Option<&'static Shape>,
        mut held: Held,
        read: fn(Received) -> Result<T>,
    ) -> JoinHandle<Result<(T, Held)>> {
        spawn_blocking(move || {
            let Self { bytes, encoding, limit } = self;
            let message = match encoding {
                Encoding::Identity => bytes,
                encoding => unpacked(encoding, bytes, limit, &mut held)?
                    .ok_or(Error::MessageTooLarge { found: limit + 1, limit })?,
            };
            if let Some(shape) = shape {
                let weight = weigh(shape, message.peek(), Effort::WHOLE).unwrap_or_default();
                held.unfold(weight.within_limits()?.bytes)?;
            }
            Ok((read(message)?, held))
        })
    }
}

/// A message of a stream as tonic hands it on: without its bytes, which
/// [`Load::take`](super::body::Load::take) has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unread;

impl Message for Unread {
    fn merge_field(
        &mut self,
        number: u32,
        wire: WireType,
        message: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire, number, message, context)
    }

    fn encode_raw(&self, _: &mut impl BufMut) {}

    fn encoded_len(&self) -> usize {
        0
    }

    fn clear(&mut self) {}
}

/// A message as it was before it was compressed; none where it is longer than `limit` bytes. Its
/// memory grows with the bytes that come out.
fn unpacked(
    encoding: Encoding,
    packed: impl Buf,
    limit: usize,
    held: &mut Held,
) -> Result<Option<Received>> {
    let packed = packed.reader();
    let mut unpacked: Box<dyn Read> = match encoding {
        Encoding::Identity => Box::new(packed),
        Encoding::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Encoding::Deflate => Box::new(ZlibDecoder::new(packed)),
    };
    let mut message = Vec::new();
    // One byte over the limit is read, to tell a message of just the limit from a longer one.
    while message.len() <= limit {
        let piece = PIECE.min(limit + 1 - message.len());
        let read = unpacked.by_ref().take(piece as u64).read_to_end(&mut message);
        let read = read.map_err(|error| Error::Malformed {
            detail: format!("expected a message compressed by {encoding:?}: {error}"),
        })?;
        held.grow(read)?;
        if read < piece {
            return Ok(Some(Received {
                size: message.len(),
                first: message.into(),
                ..Default::default()
            }));
        }
    }
    Ok(None)
}

/// Does work that takes longer than a turn of the loop may, on another thread.
pub async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await?
}

/// The reply; an error where it is too long for clients, whose libraries count a message's bytes in
/// 32 bits with a sign.
pub fn within_limit(reply: BytesMut) -> Result<BytesMut> {
    let limit = i32::MAX as usize;
    match reply.len().saturating_sub(PREFIX) {
        found if found > limit => Err(Error::ReplyTooLarge { found, limit }),
        _ => Ok(reply),
    }
}

/// Fills in the prefix of a message, which begins with `PREFIX` bytes of room for it.
pub fn frame(mut message: BytesMut) -> BytesMut {
    let prefix = prefix_of(message.len() - PREFIX);
    message[..PREFIX].copy_from_slice(&prefix);
    message
}

/// The prefix of a message of this length in bytes, not compressed.
fn prefix_of(length: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [0, a, b, c, d]
}

/// The prefix of a message of this length in bytes, not compressed, in memory of its own.
pub fn prefix(length: usize) -> Bytes {
    Bytes::copy_from_slice(&prefix_of(length))
}
