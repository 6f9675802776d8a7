//! Messages and the prefix that each has in gRPC: 0 for not compressed, and the length.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::error::{Code, Error, Result, Retry};

/// Bytes of the prefix.
const PREFIX: usize = 5;

/// The message as gRPC sends it: its prefix and its encoding.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + length);
    framed.put_u8(0);
    // A length that does not fit is refused before the message is sent, by `check_length`.
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut framed);
    framed.freeze()
}

/// Refuses a message of more than `most` bytes, which has this length with its prefix.
pub(super) fn check_length(framed: usize, most: usize) -> Result<()> {
    match framed.saturating_sub(PREFIX) {
        length if length > most => Err(too_large("message to send", length, most)),
        _ => Ok(()),
    }
}

fn too_large(what: &str, length: usize, most: usize) -> Error {
    let message = format!("{what}: expected at most {most} bytes, got {length}");
    Error::new(Code::ResourceExhausted, message).because("MESSAGE_TOO_LARGE").then(Retry::Never)
}

/// The messages of an answer, from its pieces as they come. A message in one piece is not copied.
#[derive(Debug)]
pub(super) struct Frames {
    /// Most bytes of a message.
    most: usize,
    /// A piece of which no more has come; empty where `joined` is not.
    piece: Bytes,
    /// Several pieces, one after the other.
    joined: BytesMut,
}

impl Frames {
    pub(super) fn new(most: usize) -> Self {
        Self { most, piece: Bytes::new(), joined: BytesMut::new() }
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if self.joined.is_empty() && self.piece.is_empty() {
            self.piece = piece;
        } else {
            self.joined.extend_from_slice(&std::mem::take(&mut self.piece));
            self.joined.extend_from_slice(&piece);
        }
    }

    /// The next message; none where it has not come whole.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED as soon as the prefix of a message that is too large has come; INTERNAL
    /// where a message is compressed, for that was not asked for.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>> {
        let held = if self.joined.is_empty() { &self.piece[..] } else { &self.joined[..] };
        let Some((prefix, rest)) = held.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(Error::new(Code::Internal, "the server's answer is compressed"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > self.most {
            return Err(too_large("message received", length, self.most));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let whole = PREFIX + length;
        let mut message = match self.joined.is_empty() {
            true => self.piece.split_to(whole),
            false => self.joined.split_to(whole).freeze(),
        };
        message.advance(PREFIX);
        Ok(Some(message))
    }

    /// Whether no part of a message is held.
    pub(super) fn is_empty(&self) -> bool {
        self.piece.is_empty() && self.joined.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
    }

    proptest! {
        #[test]
        fn messages_are_read_however_they_are_cut(
            messages in vec(vec(any::<u8>(), 0..40), 0..6), cuts in vec(1usize..30, 1..20)
        ) {
            let mut bytes = Bytes::from(messages.iter().flat_map(|message| framed(message)).collect::<Vec<u8>>());
            let mut frames = Frames::new(40);
            let mut read = Vec::new();
            for cut in cuts.iter().cycle() {
                if bytes.is_empty() {
                    break;
                }
                frames.push(bytes.split_to((*cut).min(bytes.len())));
                while let Some(message) = frames.next().expect("a message") {
                    read.push(message.to_vec());
                }
            }
            prop_assert!(frames.is_empty());
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn a_message_has_its_prefix(text: String) {
            let expected = framed(&text.encode_to_vec());
            prop_assert_eq!(&frame(&text)[..], expected);
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_by_its_prefix() {
        let mut frames = Frames::new(3);
        frames.push(Bytes::from_static(&[0, 0, 0, 0, 4]));
        let error = frames.next().expect_err("an error");
        assert_eq!((error.code(), error.reason()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
        assert!(!error.is_retryable());
        assert!(check_length(PREFIX + 3, 3).is_ok());
        assert!(check_length(PREFIX + 4, 3).is_err());
    }

    #[test]
    fn a_compressed_message_is_refused() {
        let mut frames = Frames::new(3);
        frames.push(Bytes::from_static(&[1, 0, 0, 0, 0]));
        assert_eq!(frames.next().expect_err("an error").code(), Code::Internal);
    }
}
