//! The calls of one connection, run by the connection's own task.
//!
//! A task of its own for each call costs an aligned allocation and a turn of the scheduler; a unary
//! call is too short for that.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, spawn_local, yield_now};

/// The most calls that a connection begins in one turn of the loop. Their answers leave while the
/// next calls are worked on: else a client with one connection and the server would wait for each
/// other in turn.
const A_TURN: usize = 24;
/// The most calls that a connection may have open.
pub const CALLS: usize = 1024;

/// The way in which a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The connection takes no more calls; those that have been begun are answered.
    Drained,
    /// The connection ends at once, because it has no work. The client is told which calls it may
    /// send again elsewhere.
    Evicted,
}

/// Runs a connection and its calls to the connection's end. Everything that the calls hold is
/// dropped with it. `begin` makes the future that works on a request.
pub async fn run<S, C>(
    mut connection: Connection<S, Bytes>,
    end: impl Future<Output = End>,
    mut begin: impl FnMut(Request<RecvStream>, SendResponse<Bytes>) -> C,
) -> Result<(), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Future<Output = ()>,
{
    let mut end = pin!(end.fuse());
    let mut waiting = VecDeque::new();
    let mut running = FuturesUnordered::new();
    let mut next_turn: Option<JoinHandle<()>> = None;
    poll_fn(|context| {
        if next_turn.as_mut().is_some_and(|turn| turn.poll_unpin(context).is_ready()) {
            next_turn = None;
        }
        match end.as_mut().poll(context) {
            Poll::Ready(End::Drained) => connection.graceful_shutdown(),
            Poll::Ready(End::Evicted) => {
                connection.abrupt_shutdown(Reason::NO_ERROR);
                // The GOAWAY is written now or never: a client that is evicted is not waited for.
                let _ = connection.poll_closed(context);
                return Poll::Ready(Ok(()));
            }
            Poll::Pending => {}
        }
        let mut room = if next_turn.is_none() { A_TURN } else { 0 };
        loop {
            // Calls are taken all at once, because one that waits in `h2` keeps its metadata there.
            loop {
                match connection.poll_accept(context) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        waiting.push_back(begin(request, respond));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => break,
                }
            }
            // Where more calls wait than may be open, some have been reset. All begin then, because
            // a call that begins sees its reset, and ends.
            let begun = if waiting.len() > CALLS { waiting.len() } else { waiting.len().min(room) };
            room = room.saturating_sub(begun);
            running.extend(waiting.drain(..begun));
            if !waiting.is_empty() && next_turn.is_none() {
                // The next turn is awaited in another task, because this one is woken for other
                // reasons, too.
                let turn = next_turn.insert(spawn_local(yield_now()));
                let _ = turn.poll_unpin(context);
            }
            let mut ended = false;
            while let Poll::Ready(Some(())) = running.poll_next_unpin(context) {
                ended = true;
            }
            if !ended {
                return Poll::Pending;
            }
            // The loop goes on, so that the connection writes at once what the calls have answered.
        }
    })
    .await
}
