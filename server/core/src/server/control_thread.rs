//! The control thread: accepts connections and hands each to a shard.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::server::heartbeat;
use crate::server::http;
use crate::server::listeners::{Listeners, UnixSocket};
use crate::server::trim;
use crate::shard::connections::Place;
use crate::shard::socket::Socket;
use crate::shard::{Handle, Life, Shared};

/// How long a connection is silent before its client is looked for, who may have vanished.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long to wait when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the control thread works on.
#[derive(Debug)]
pub struct Control {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Those that take connections.
    pub shards: Vec<Handle>,
    /// Open connections at once of the HTTP port.
    pub http_connections: usize,
    /// How far the end has come.
    pub life: watch::Receiver<Life>,
}

/// Starts the thread. It ends when life is over.
pub fn start(control: Control, listeners: Listeners) -> io::Result<JoinHandle<()>> {
    let (started, starts) = blocking::channel();
    let thread = thread::Builder::new().name("control".into()).spawn(move || {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(Rc::new(control), listeners, started)),
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    starts.recv().unwrap_or_else(|_| Err(io::Error::other("the control thread did not start")))?;
    Ok(thread)
}

async fn run(
    control: Rc<Control>,
    listeners: Listeners,
    started: blocking::Sender<io::Result<()>>,
) {
    // Its file goes with this function.
    let Listeners { grpc, unix, http } = listeners;
    if let Err(error) = accept_all(&control, grpc, unix.as_ref(), http) {
        return drop(started.send(Err(error)));
    }
    let _ = started.send(Ok(()));
    let _ = control.life.clone().wait_for(|life| *life == Life::Over).await;
}

fn accept_all(
    control: &Rc<Control>,
    grpc: TcpListener,
    unix: Option<&UnixSocket>,
    http: TcpListener,
) -> io::Result<()> {
    let grpc = tokio::net::TcpListener::from_std(grpc)?;
    let http = tokio::net::TcpListener::from_std(http)?;
    if let Some(UnixSocket { listener, .. }) = unix {
        let unix = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
        let next = async move || Ok(Socket::Unix(unix.accept().await?.0.into_std()?));
        spawn_local(accept(control.clone(), next));
    }
    let next = async move || {
        let stream = grpc.accept().await?.0;
        // They fail only where the client has gone already.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        Ok(Socket::Tcp(stream.into_std()?))
    };
    spawn_local(accept(control.clone(), next));
    spawn_local(http::serve(control.clone(), http));
    spawn_local(heartbeat::watch(control.clone()));
    spawn_local(trim::watch(control.clone()));
    Ok(())
}

/// Hands each connection to the shard with the fewest, until the server drains.
async fn accept(control: Rc<Control>, next: impl AsyncFn() -> io::Result<Socket>) {
    let mut life = control.life.clone();
    loop {
        let socket = tokio::select! {
            accepted = next() => accepted,
            _ = life.wait_for(|life| *life != Life::Serving) => return,
        };
        match socket {
            Ok(socket) => control.place(socket),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Control {
    fn place(&self, socket: Socket) {
        let Shared { metrics, connections, memory, .. } = &*self.shared;
        let open = match connections.open(memory.account()) {
            Place::Free(open) => open,
            Place::OfIdle(open) => {
                metrics.connections_evicted.fetch_add(1, Relaxed);
                open
            }
            Place::None => {
                metrics.connections_refused.fetch_add(1, Relaxed);
                let limit = connections.limit();
                tracing::warn!("a connection is refused: {limit} are open and have work");
                return;
            }
        };
        metrics.connections.fetch_add(1, Relaxed);
        let least = |shard: &&Handle| (shard.is_stuck(), shard.connections());
        if let Some(shard) = self.shards.iter().min_by_key(least) {
            shard.connect(socket, open);
        }
    }
}
