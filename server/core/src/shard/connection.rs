//! A connection over HTTP/2, from its first byte to its last.

use std::error::Error;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::pending;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::grpc::budget::Account;
use crate::lifecycle::{Life, until};
use crate::shard::calls::{self, CALLS, End};
use crate::shard::connections::Open;
use crate::shard::peer::Peer;
use crate::shard::socket::{Seen, Socket, Watched};
use crate::shard::{Service, Shard};

/// Bytes of the largest frame that clients are told to send, so that a tensor comes in few of them.
const FRAME_BYTES: u32 = 1 << 20;
/// Bytes that a client may send ahead on a stream.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes that a client may send ahead on a connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// The most bytes of a call's metadata that cost the call alone, and not its connection. Metadata
/// over the server's own limit is refused with a reason.
const METADATA_BYTES: u32 = 1 << 20;
/// Time for which a client of a server that drains may send nothing.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes of the shortest handshake: a preface and a SETTINGS frame (RFC 9113, section 3.4).
const GREETING_BYTES: usize = 24 + 9;

/// Serves a connection to its end.
pub async fn serve<S: Service>(service: Rc<S>, socket: Socket, open: Open) {
    let served = match socket {
        Socket::Tcp(stream) => {
            let peer = Peer { address: stream.peer_addr().ok(), certificate: None };
            match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => run(service, stream, open, peer).await,
                Err(error) => Err(error.into()),
            }
        }
        Socket::Unix(stream) => match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => run(service, stream, open, Peer::default()).await,
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn run<S: Service, T>(
    service: Rc<S>,
    stream: T,
    open: Open,
    peer: Peer,
) -> Result<(), Box<dyn Error>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let shard = service.shard();
    let (stream, seen) = Watched::new(stream);
    let greeted_by = Instant::now() + shard.state.handshake_time;
    let ends = async {
        tokio::select! {
            () = until(shard.life.clone(), |life| life != Life::Serving) => End::Drained,
            // A call that was sent meanwhile is answered.
            () = open.evicted() => match open.account().has_work() {
                true => End::Drained,
                false => End::Evicted,
            },
        }
    };
    let mut ends = Box::pin(ends);
    let connection = tokio::select! {
        shaken = timeout_at(greeted_by, handshake(stream)) => match shaken {
            Ok(connection) => connection?,
            Err(_) => return Err(late(shard)),
        },
        // A connection that has not begun has no calls.
        _ = &mut ends => return Ok(()),
    };
    let client = service.client(peer);
    let begin = |request, reply| service.begin(&open, &client, request, reply);
    tokio::select! {
        biased;
        result = calls::run(connection, ends, begin) => Ok(result?),
        error = ungreeted(shard, &seen, greeted_by) => Err(error),
        error = stalled(shard, open.account(), &seen) => Err(error),
        () = left_alone(shard, open.account(), &seen) => Ok(()),
    }
}

async fn handshake<S>(stream: Watched<S>) -> Result<Connection<Watched<S>, Bytes>, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(CALLS as u32)
        .max_header_list_size(METADATA_BYTES)
        // A client that gives up a connection's calls all at once means no harm.
        .max_pending_accept_reset_streams(CALLS)
        .handshake(stream)
        .await
}

/// Waits until a client should have sent its SETTINGS and has not; never returns where it has.
async fn ungreeted(shard: &Shard, seen: &Seen, by: Instant) -> Box<dyn Error> {
    sleep_until(by).await;
    if seen.received() >= GREETING_BYTES {
        pending::<()>().await;
    }
    late(shard)
}

/// Counts a client that has not begun in time, and returns the error. The client is counted before
/// its connection is closed, so that whoever sees the connection closed sees it counted.
fn late(shard: &Shard) -> Box<dyn Error> {
    shard.state.metrics.handshakes_late.fetch_add(1, Relaxed);
    let time = shard.state.handshake_time;
    format!("its client has not begun to speak HTTP/2 within {time:?}").into()
}

/// Waits until a client has kept a message waiting for too long, or has for as long taken nothing
/// of what there is to send. Counts the client, and returns the error.
async fn stalled(shard: &Shard, account: &Account, seen: &Seen) -> Box<dyn Error> {
    let patience = shard.state.budget.patience();
    while !account.tick() && !seen.takes_nothing_for(patience) {
        sleep(account.tick_time()).await;
    }
    shard.state.metrics.connections_stalled.fetch_add(1, Relaxed);
    format!("its client kept a message waiting for over {patience:?}").into()
}

/// Waits until the server drains and the client, which waits for nothing, has sent nothing for a
/// while: the server's end does not wait for a client that stands still.
async fn left_alone(shard: &Shard, account: &Account, seen: &Seen) {
    until(shard.life.clone(), |life| life != Life::Serving).await;
    loop {
        let received = seen.received();
        sleep(FAREWELL).await;
        if !account.has_work() && seen.received() == received {
            return;
        }
    }
}
