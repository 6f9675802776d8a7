//! The `:authority` of calls, mended on its way in so that this server takes any.
//!
//! `h2` refuses a call whose authority is not valid by RFC 3986: the `a%2Cb` that gRPC's C core
//! makes of a target with several addresses, or the path of a Unix domain socket. Servers over that
//! core take any authority, and nothing in this server asks for it. So bytes that `h2` might not
//! take are replaced on their way in, one for one: a header's length is part of HPACK's state, and
//! stays.
//!
//! A value in Huffman's code stays as it is. The C core sends none.

/// Bytes of the client's preface (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// Bytes of a frame's head: the length in 3, the type, the flags, and the stream in 4 (RFC 9113,
/// section 4.1).
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// Bytes that the flag PRIORITY adds before the headers (RFC 9113, section 6.2).
const PRIORITY_SIZE: usize = 5;
const NAME: &[u8] = b":authority";
/// The index of `:authority` in HPACK's static table (RFC 7541, appendix A).
const INDEX: usize = 1;

/// A reader that follows what a client sends, wherever it is cut, and mends every authority.
#[derive(Debug)]
pub struct Authority {
    frame: Frame,
    fields: Fields,
}

/// The place in its frames that a client has reached.
#[derive(Clone, Copy, Debug)]
enum Frame {
    /// So many bytes are passed over, and then a frame begins.
    Skip(usize),
    /// So many bytes of a frame's head have come.
    Head(usize, [u8; HEAD]),
    /// The length of the padding comes next, in one byte; then `priority` bytes of PRIORITY, and
    /// then `rest` bytes of headers and padding.
    PadLength { priority: usize, rest: usize },
    /// So many bytes of PRIORITY, headers and padding come next.
    Priority { priority: usize, headers: usize, padding: usize },
    /// So many bytes of headers and of padding come next.
    Headers { headers: usize, padding: usize },
}

/// The place in the fields of its headers that a client has reached (RFC 7541, section 6).
#[derive(Clone, Copy, Debug)]
enum Fields {
    /// A field begins.
    Begin,
    /// A number goes on.
    Number { value: usize, shift: u32, then: Then },
    /// A string begins.
    String(Text),
    /// So many bytes of a string are left.
    Text { left: usize, text: Text },
}

/// The thing that follows a number.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The next field: the number was all of this one.
    Begin,
    /// A name, where the number is 0, or the value of the name that the number stands for.
    Literal,
    /// A string of as many bytes as the number says.
    Text(Text),
}

/// The kind of a string.
#[derive(Clone, Copy, Debug)]
enum Text {
    /// A name, all of whose bytes so far are the first ones of `:authority`, so many; none: they
    /// are others.
    Name(Option<usize>),
    /// A value, and whether it is an authority, to mend.
    Value(bool),
}

impl Default for Authority {
    fn default() -> Self {
        Self { frame: Frame::Skip(PREFACE), fields: Fields::Begin }
    }
}

impl Authority {
    /// Mends the bytes that have come next.
    pub fn mend(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let (frame, seen) = match self.frame {
                Frame::Skip(0) => (Frame::Head(0, [0; HEAD]), 0),
                Frame::Skip(left) => {
                    let seen = left.min(bytes.len());
                    (Frame::Skip(left - seen), seen)
                }
                Frame::Head(HEAD, head) => (begin(head), 0),
                Frame::Head(came, mut head) => {
                    let seen = (HEAD - came).min(bytes.len());
                    head[came..came + seen].copy_from_slice(&bytes[..seen]);
                    (Frame::Head(came + seen, head), seen)
                }
                Frame::PadLength { priority, rest } => {
                    let padding = usize::from(bytes[0]).min(rest);
                    (Frame::Priority { priority, headers: rest - padding, padding }, 1)
                }
                Frame::Priority { priority: 0, headers, padding } => {
                    (Frame::Headers { headers, padding }, 0)
                }
                Frame::Priority { priority, headers, padding } => {
                    let seen = priority.min(bytes.len());
                    (Frame::Priority { priority: priority - seen, headers, padding }, seen)
                }
                Frame::Headers { headers: 0, padding } => (Frame::Skip(padding), 0),
                Frame::Headers { headers, padding } => {
                    let seen = headers.min(bytes.len());
                    self.fields = self.fields.mend(&mut bytes[..seen]);
                    (Frame::Headers { headers: headers - seen, padding }, seen)
                }
            };
            self.frame = frame;
            bytes = &mut bytes[seen..];
        }
    }
}

/// The place after a frame's head. A malformed frame is left to `h2`.
fn begin(head: [u8; HEAD]) -> Frame {
    let [a, b, c, kind, flags, ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let priority = if flags & PRIORITY == 0 { 0 } else { PRIORITY_SIZE };
    match (kind, length.checked_sub(1 + priority)) {
        (CONTINUATION, _) => Frame::Headers { headers: length, padding: 0 },
        (HEADERS, Some(rest)) if flags & PADDED != 0 => Frame::PadLength { priority, rest },
        (HEADERS, _) => {
            let headers = length.saturating_sub(priority);
            Frame::Priority { priority: length.min(priority), headers, padding: 0 }
        }
        _ => Frame::Skip(length),
    }
}

impl Fields {
    fn mend(mut self, mut bytes: &mut [u8]) -> Self {
        while let [first, ..] = bytes {
            let (next, seen) = match self {
                Self::Begin => (field(*first), 1),
                Self::Number { value, shift, then } => {
                    let more = usize::from(*first & 0x7f).checked_shl(shift).unwrap_or(usize::MAX);
                    let value = value.saturating_add(more);
                    match *first & 0x80 {
                        0 => (then.of(value), 1),
                        _ => (Self::Number { value, shift: shift.saturating_add(7), then }, 1),
                    }
                }
                Self::String(text) => (string(*first, text), 1),
                Self::Text { left, text } => {
                    let (now, later) = bytes.split_at_mut(left.min(bytes.len()));
                    let (left, text) = (left - now.len(), text.mend(now));
                    bytes = later;
                    (if left == 0 { text.end() } else { Self::Text { left, text } }, 0)
                }
            };
            self = next;
            bytes = &mut bytes[seen..];
        }
        self
    }
}

/// The place after a field's first byte (RFC 7541, sections 6.1 to 6.3).
fn field(first: u8) -> Fields {
    let (bits, then) = match first {
        0x80.. => (7, Then::Begin),
        0x40.. => (6, Then::Literal),
        0x20.. => (5, Then::Begin),
        _ => (4, Then::Literal),
    };
    number(first, bits, then)
}

/// The place after a string's first byte (RFC 7541, section 5.2).
fn string(first: u8, text: Text) -> Fields {
    let is_coded = first & 0x80 != 0;
    let text = match text {
        // No name is looked for in Huffman's code, and no value replaced.
        Text::Name(_) if is_coded => Text::Name(None),
        Text::Value(_) if is_coded => Text::Value(false),
        text => text,
    };
    number(first, 7, Then::Text(text))
}

/// The place after a number's first byte, of which the low `bits` bits are the number's (RFC 7541,
/// section 5.1).
fn number(first: u8, bits: u32, then: Then) -> Fields {
    let most = (1 << bits) - 1;
    match first & most {
        value if value == most => Fields::Number { value: most.into(), shift: 0, then },
        value => then.of(value.into()),
    }
}

impl Then {
    fn of(self, value: usize) -> Fields {
        match self {
            Self::Begin => Fields::Begin,
            Self::Literal if value == 0 => Fields::String(Text::Name(Some(0))),
            Self::Literal => Fields::String(Text::Value(value == INDEX)),
            Self::Text(text) if value == 0 => text.end(),
            Self::Text(text) => Fields::Text { left: value, text },
        }
    }
}

impl Text {
    /// The kind of the string once these bytes of it have come, which are mended where they are an
    /// authority's.
    fn mend(self, bytes: &mut [u8]) -> Self {
        match self {
            Self::Name(Some(came)) => {
                let is_same = NAME.get(came..came + bytes.len()).is_some_and(|name| name == bytes);
                Self::Name(is_same.then_some(came + bytes.len()))
            }
            Self::Value(true) => {
                let others = bytes.iter_mut().filter(|byte| !is_taken(**byte));
                others.for_each(|byte| *byte = b'-');
                self
            }
            _ => self,
        }
    }

    /// The place after the string's end.
    fn end(self) -> Fields {
        match self {
            Self::Name(came) => Fields::String(Text::Value(came == Some(NAME.len()))),
            Self::Value(_) => Fields::Begin,
        }
    }
}

/// Whether a byte may stand anywhere in an authority.
fn is_taken(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame on stream 1.
    fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], content].concat()
    }

    /// A string that is not in Huffman's code.
    fn text(text: &[u8]) -> Vec<u8> {
        match text.len() {
            short @ ..127 => [&[short as u8], text].concat(),
            long => [&[127, (long - 127) as u8], text].concat(),
        }
    }

    /// The bytes that a client sends, and the bytes that are to become of them.
    fn sent() -> (Vec<u8>, Vec<u8>) {
        let long = "a,b:".repeat(50);
        let block = |several: &str, path: &str, long: &str| {
            let named = [&[0x40], &text(NAME)[..], &text(several.as_bytes())].concat();
            let known = [&[0x41], &text(path.as_bytes())[..]].concat();
            let secret = [&[0x11], &text(long.as_bytes())[..]].concat();
            let coded = [0x01, 0x83, b'%', b',', b'/'];
            let other = [&[0x00], &text(b":authorit")[..], &text(b"a%b")].concat();
            let longer = [&[0x40], &text(b":authority2")[..], &text(b"a%b")].concat();
            let path = [&[0x44], &text(b"/a%b")[..]].concat();
            // A change of the table's size, and fields that are known by numbers of one and two
            // bytes.
            let known_fields = vec![0x3f, 0xe1, 0x1f, 0x82, 0xff, 0x05];
            [named, known, secret, coded.into(), other, longer, path, known_fields].concat()
        };
        let stream = |block: Vec<u8>| {
            let (first, second) = block.split_at(40);
            let padded = [&[3][..], &[0; PRIORITY_SIZE], first, &[b'%'; 3]].concat();
            let frames = [
                frame(4, 0, b""),
                frame(HEADERS, PADDED | PRIORITY, &padded),
                frame(CONTINUATION, 4, second),
                frame(0, 1, b"\x40\x0a:authority\x03a%b"),
                frame(HEADERS, 4, &block),
            ];
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frames.concat()].concat()
        };
        let came = stream(block("a:1%2Cb:2", "%2Ftmp%2Fsocket", &long));
        let goes = stream(block("a-1-2Cb-2", "-2Ftmp-2Fsocket", &long.replace([',', ':'], "-")));
        (came, goes)
    }

    #[test]
    fn an_authority_becomes_one_that_is_taken_and_nothing_else_changes() {
        let (mut came, goes) = sent();
        Authority::default().mend(&mut came);
        assert_eq!(came.escape_ascii().to_string(), goes.escape_ascii().to_string());
    }

    #[test]
    fn it_does_not_matter_where_the_bytes_are_cut() {
        let (came, goes) = sent();
        for size in 1..60 {
            let (mut came, mut authority) = (came.clone(), Authority::default());
            came.chunks_mut(size).for_each(|chunk| authority.mend(chunk));
            assert_eq!(came, goes, "in pieces of {size}");
        }
    }

    #[test]
    fn nothing_that_a_client_sends_ends_it() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for _ in 0..2000 {
            let block: Vec<u8> = (0..64).map(|_| random() | (random() & 0x0f)).collect();
            let mut all = [vec![0; PREFACE], frame(HEADERS, random(), &block)].concat();
            Authority::default().mend(&mut all);
        }
    }
}
