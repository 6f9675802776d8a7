//! The thread of TLS handshakes, which hands a connection to a shard once its session stands.
//!
//! A handshake takes as long as many requests. Here it holds none up, and where cores are few, the
//! thread gives way to shards.

use std::io;
use std::net;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};

use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::timeout_at;

use crate::lifecycle::{Counted, Life, until};
use crate::service::dispatch::Dispatch;
use crate::shard::connections::Open;
use crate::shard::handle::{Handle, fewest};
use crate::shard::socket::Socket;
use crate::state::ServerState;
use crate::tls::Session;
use crate::tls::config::Tls;
use crate::tls::handshake::{Broken, Worked, handshake, work};

/// The rise of the thread's nice value. A thread at 10 gets a ninth of what one at 0 gets.
const NICE: libc::c_int = 10;

/// The handle by which connections are given to the thread of handshakes.
#[derive(Debug)]
pub struct Handshakes {
    connections: mpsc::UnboundedSender<(net::TcpStream, Open, Counted)>,
    under_way: Arc<AtomicUsize>,
}

impl Handshakes {
    /// Has a connection's handshake done, and the connection given to a shard. Its place bounds how
    /// many there are.
    pub fn take(&self, stream: net::TcpStream, open: Open) {
        let _ = self.connections.send((stream, open, Counted::new(&self.under_way)));
    }

    /// The number of handshakes under way.
    pub fn under_way(&self) -> usize {
        self.under_way.load(Relaxed)
    }
}

/// The parts of a server that the thread works on.
struct Thread {
    tls: Arc<Tls>,
    state: Arc<ServerState>,
    shards: Vec<Handle<Dispatch>>,
    life: watch::Receiver<Life>,
}

/// Starts the thread, which ends when the server's life is over.
pub fn start(
    tls: Arc<Tls>,
    state: Arc<ServerState>,
    shards: Vec<Handle<Dispatch>>,
    life: watch::Receiver<Life>,
) -> io::Result<(Handshakes, JoinHandle<()>)> {
    let (connections, inbox) = mpsc::unbounded_channel();
    let (started, starts) = blocking::channel();
    let thread = thread::Builder::new().name("handshakes".into()).spawn(move || {
        give_way();
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                let thread = Thread { tls, state, shards, life };
                runtime.block_on(run(Rc::new(thread), inbox));
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    let stopped = || Err(io::Error::other("the thread of handshakes did not start"));
    starts.recv().unwrap_or_else(|_| stopped())?;
    Ok((Handshakes { connections, under_way: Arc::default() }, thread))
}

/// Raises this thread's nice value.
#[allow(unsafe_code)]
pub fn give_way() {
    // SAFETY: the call takes numbers only. On Linux, 0 is the calling thread (setpriority(2)).
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

async fn run(
    this: Rc<Thread>,
    mut inbox: mpsc::UnboundedReceiver<(net::TcpStream, Open, Counted)>,
) {
    loop {
        tokio::select! {
            Some((stream, open, counted)) = inbox.recv() => {
                let this = this.clone();
                spawn_local(async move {
                    this.connect(stream, open).await;
                    drop(counted);
                });
            }
            () = until(this.life.clone(), |life| life == Life::Over) => return,
        }
    }
}

impl Thread {
    async fn connect(&self, stream: net::TcpStream, open: Open) {
        let ServerState { metrics, handshake_time, .. } = &*self.state;
        let by = open.since() + *handshake_time;
        // The socket is in here to the end, so that a late client is counted before it is closed.
        let mut shake = pin!(timeout_at(by.into(), self.shake(stream)));
        let result = tokio::select! {
            result = &mut shake => result,
            () = open.evicted() => return,
            () = until(self.life.clone(), |life| life != Life::Serving) => return,
        };
        let Ok(shaken) = result else {
            metrics.handshakes_late.fetch_add(1, Relaxed);
            tracing::debug!("a TLS handshake took longer than {handshake_time:?}");
            return;
        };
        if let Some((stream, session)) = shaken
            && let Some(shard) = fewest(&self.shards)
        {
            shard.connect(Socket::Tls(stream, session), open);
        }
    }

    /// Carries the handshake of a connection to its end, and takes the socket from this thread's
    /// loop, so that it can go to another; none where the handshake fails.
    async fn shake(&self, stream: net::TcpStream) -> Option<(net::TcpStream, Session)> {
        let mut stream = TcpStream::from_std(stream).ok()?;
        // A client that says nothing costs no session.
        stream.readable().await.ok()?;
        let session = self.tls.grpc_session().ok()?;
        let work = async |session| Ok(work(session));
        let session = counted(&self.state, &mut stream, session, work).await?;
        Some((stream.into_std().ok()?, session))
    }
}

/// Carries a handshake to its end, and counts it; none where it fails. A client is counted before it
/// is told, so that whoever is told sees it counted.
pub async fn counted<S>(
    state: &ServerState,
    io: &mut S,
    session: Session,
    process: impl AsyncFn(Session) -> Result<Worked, Broken>,
) -> Option<Session>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let tls = state.metrics.tls.as_ref()?;
    let fails = |broken: &Broken| {
        tls.failed(broken.failure());
        tracing::debug!("a TLS handshake failed: {}", broken.words());
    };
    let session = handshake(io, session, process, fails).await.ok()?;
    tls.shaken(session.handshake_kind() == Some(HandshakeKind::Resumed));
    Some(session)
}
