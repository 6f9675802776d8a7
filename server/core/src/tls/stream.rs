//! Streams over TLS.
//!
//! What is written is encrypted at once and sent when the stream is flushed, or when much of it
//! waits: an answer of several frames is one write to the socket.

use std::cell::RefCell;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::tls::Session;

/// Bytes that are read from a socket at once: a few of the longest records (RFC 8446, section 5.2).
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// The buffer into which this thread reads, so that a connection that is idle has none.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// A stream over an established session.
#[derive(Debug)]
pub struct Stream<S> {
    io: S,
    session: Session,
    /// Bytes that have come and that the session has no room for yet.
    ahead: Ahead,
}

#[derive(Debug, Default)]
struct Ahead {
    bytes: Vec<u8>,
    /// The number of the bytes that the session has taken.
    taken: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// A stream that goes on where the handshake ended.
    pub fn new(io: S, session: Session) -> Self {
        Self { io, session, ahead: Ahead::default() }
    }

    /// Decrypts what has come, or what the socket has next.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, session, ahead } = self;
        if !ahead.bytes.is_empty() {
            let mut rest = &ahead.bytes[ahead.taken..];
            let fed = feed(session, &mut rest);
            ahead.taken = ahead.bytes.len() - rest.len();
            if rest.is_empty() {
                *ahead = Ahead::default();
            }
            return Poll::Ready(fed);
        }
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(io).poll_read(context, &mut buffer))?;
            let mut rest = buffer.filled();
            if rest.is_empty() {
                // The session is told that nothing more will come.
                session.read_tls(&mut rest)?;
            }
            feed(session, &mut rest)?;
            ahead.bytes.extend_from_slice(rest);
            Poll::Ready(Ok(()))
        })
    }
}

/// Has a session decrypt bytes until they end or its buffer of decrypted ones is full.
fn feed(session: &mut ServerConnection, bytes: &mut &[u8]) -> io::Result<()> {
    while !bytes.is_empty() && session.wants_read() {
        if session.read_tls(bytes)? == 0 {
            // The client has said that nothing follows.
            *bytes = &[];
        }
        session
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A read that needs no socket counts as one, too, so that no client's data fills a turn of
        // the loop.
        let turn = ready!(poll_proceed(context));
        let this = &mut *self;
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            match this.session.reader().fill_buf() {
                Ok([]) => break,
                Ok(chunk) => {
                    let size = chunk.len().min(buffer.remaining());
                    buffer.put_slice(&chunk[..size]);
                    this.session.reader().consume(size);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The client is gone without a farewell. HTTP says itself what is complete.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if buffer.filled().len() > before && this.ahead.bytes.is_empty() {
                break;
            }
            let more = this.poll_more(context);
            if this.session.wants_write() {
                // An alert, or the answer to an update of keys. It goes with the next write at the
                // latest.
                let _ = drain(&mut this.io, &mut this.session, context)?;
            }
            ready!(more)?;
        }
        turn.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { io, session, .. } = &mut *self;
        let is_empty = slices.iter().all(|slice| slice.is_empty());
        loop {
            let size = session.writer().write_vectored(slices)?;
            if size > 0 || is_empty {
                return Poll::Ready(Ok(size));
            }
            // There is no room until the client has taken something.
            ready!(drain(io, session, context))?;
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, session, .. } = &mut *self;
        ready!(drain(io, session, context))?;
        Pin::new(io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, session, .. } = &mut *self;
        session.send_close_notify();
        ready!(drain(io, session, context))?;
        Pin::new(io).poll_shutdown(context)
    }
}

/// Sends all that a session has to send.
pub fn drain<S: AsyncWrite + Unpin>(
    io: &mut S,
    session: &mut ServerConnection,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while session.wants_write() {
        match session.write_tls(&mut Blocking { io, context }) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Ready(Ok(()))
}

/// Reads what comes next of a handshake into a session. Returns the number of bytes; 0: no more
/// will come.
pub fn fill<S: AsyncRead + Unpin>(
    io: &mut S,
    session: &mut ServerConnection,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    match session.read_tls(&mut Blocking { io, context }) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// A stream as sessions want it: what is not ready is an error.
struct Blocking<'a, 'b, S> {
    io: &'a mut S,
    context: &'a mut Context<'b>,
}

fn now<T>(result: Poll<io::Result<T>>) -> io::Result<T> {
    match result {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for Blocking<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        now(Pin::new(&mut *self.io).poll_read(self.context, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for Blocking<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.io).poll_write(self.context, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.io).poll_write_vectored(self.context, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        now(Pin::new(&mut *self.io).poll_flush(self.context))
    }
}
