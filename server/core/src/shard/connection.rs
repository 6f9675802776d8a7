//! A connection over HTTP/2, from its first byte to its last.

use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::pending;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::grpc::budget::Account;
use crate::lifecycle::{Life, until};
use crate::shard::calls::{self, CALLS, End};
use crate::shard::connections::Open;
use crate::shard::peer::Peer;
use crate::shard::socket::{Inlet, Outlet, Seen, Socket};
use crate::shard::{Service, Shard};
use crate::tls;

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
    if let Err(error) = carry(service, socket, open).await {
        tracing::debug!(%error, "a connection broke");
    }
}

/// Puts what notes the client, and TLS, over the socket, and runs the connection.
async fn carry<S: Service>(
    service: Rc<S>,
    socket: Socket,
    open: Open,
) -> Result<(), Box<dyn Error>> {
    let seen = Rc::<Seen>::default();
    match socket {
        Socket::Tcp(stream) => {
            let peer = Peer { address: stream.peer_addr().ok(), certificate: None };
            let stream = Outlet::new(TcpStream::from_std(stream)?, seen.clone());
            run(service, stream, seen, open, peer).await
        }
        Socket::Tls(stream, session) => {
            let shown = session.peer_certificates().and_then(<[_]>::first);
            let peer = Peer {
                address: stream.peer_addr().ok(),
                certificate: shown.map(|certificate| certificate.to_vec()),
            };
            let stream = Outlet::new(TcpStream::from_std(stream)?, seen.clone());
            run(service, tls::stream::Stream::new(stream, session), seen, open, peer).await
        }
        Socket::Unix(stream) => {
            let stream = Outlet::new(UnixStream::from_std(stream)?, seen.clone());
            run(service, stream, seen, open, Peer::default()).await
        }
    }
}

async fn run<S: Service, T>(
    service: Rc<S>,
    stream: T,
    seen: Rc<Seen>,
    open: Open,
    peer: Peer,
) -> Result<(), Box<dyn Error>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let shard = service.shard();
    let stream = Inlet::new(stream, seen.clone());
    let greeted_by = Instant::from_std(open.since() + shard.state.handshake_time);
    let old_at = old_at(shard, &open);
    let ends = async {
        tokio::select! {
            () = until(shard.life.clone(), |life| life != Life::Serving) => End::Drained,
            // A call that was sent meanwhile is answered.
            () = open.evicted() => match open.account().has_work() {
                true => End::Drained,
                false => End::Evicted,
            },
            () = sleep_until_some(old_at) => {
                shard.state.metrics.connections_aged.fetch_add(1, Relaxed);
                End::Drained
            }
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
        () = sleep_until_some(old_at.map(|at| at + shard.state.connection_age_grace)) => Ok(()),
    }
}

/// The time at which a connection's client is asked to connect anew; none where it never is. The
/// ages differ by up to a tenth, so that connections that began together do not end together.
fn old_at(shard: &Shard, open: &Open) -> Option<Instant> {
    let age = shard.state.connection_age?;
    let chance = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    Some(Instant::from_std(open.since()) + age.mul_f64(0.9 + 0.2 * chance))
}

/// Waits until then; for ever where there is no time.
async fn sleep_until_some(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

async fn handshake<S>(stream: Inlet<S>) -> Result<Connection<Inlet<S>, Bytes>, h2::Error>
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
