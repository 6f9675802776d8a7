//! The socket of a connection, and what is noted there of the client.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::shard::authority::Authority;
use crate::tls::Session;

/// A connection as it was accepted, to be given to any thread.
#[derive(Debug)]
pub enum Socket {
    /// A connection over TCP, from any machine.
    Tcp(TcpStream),
    /// A connection over a Unix domain socket, from this machine.
    Unix(UnixStream),
    /// A connection over TCP whose TLS handshake is done.
    Tls(TcpStream, Session),
}

/// The notes on a client: how much has come from it, and whether it takes what is sent.
#[derive(Debug, Default)]
pub struct Seen {
    /// The number of bytes that have come from the client, without those of TLS.
    received: Cell<usize>,
    /// The time since which the client takes nothing of what there is to send; none: it takes it,
    /// or there is nothing.
    untaken: Cell<Option<Instant>>,
}

impl Seen {
    /// The number of bytes that have come from the client, without those of TLS.
    pub fn received(&self) -> usize {
        self.received.get()
    }

    /// Whether the client has taken nothing for longer than `time`, though there is something to
    /// send.
    pub fn takes_nothing_for(&self, time: Duration) -> bool {
        self.untaken.get().is_some_and(|since| since.elapsed() > time)
    }
}

/// A socket that notes whether the client takes what is written. TLS, where there is some, is above
/// it.
#[derive(Debug)]
pub struct Outlet<S> {
    stream: S,
    seen: Rc<Seen>,
}

impl<S> Outlet<S> {
    /// A socket that makes these notes.
    pub fn new(stream: S, seen: Rc<Seen>) -> Self {
        Self { stream, seen }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(_) => self.seen.untaken.set(None),
            Poll::Pending if self.seen.untaken.get().is_none() => {
                self.seen.untaken.set(Some(Instant::now()));
            }
            Poll::Pending => {}
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Outlet<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Outlet<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream that counts what comes from the client, and mends its authorities.
#[derive(Debug)]
pub struct Inlet<S> {
    stream: S,
    seen: Rc<Seen>,
    authority: Authority,
}

impl<S> Inlet<S> {
    /// A stream that makes these notes.
    pub fn new(stream: S, seen: Rc<Seen>) -> Self {
        Self { stream, seen, authority: Authority::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inlet<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let came = &mut buffer.filled_mut()[before..];
        self.seen.received.update(|count| count + came.len());
        self.authority.mend(came);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inlet<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
