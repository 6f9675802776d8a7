//! The acceptor, which accepts connections and hands each to a shard.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;

use crate::lifecycle::Life;
use crate::server::handshakes::Handshakes;
use crate::service::dispatch::Dispatch;
use crate::shard::connections::{Connections, Place};
use crate::shard::handle::{Handle, fewest};
use crate::shard::socket::Socket;
use crate::state::ServerState;
use crate::tls::config::Tls;

/// Time to wait when a connection cannot be accepted, as when the process has no more file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The parts of a server that the control thread works on.
#[derive(Debug)]
pub struct Control {
    /// The state that all threads of the server share.
    pub state: Arc<ServerState>,
    /// The connections that are open.
    pub connections: Arc<Connections>,
    /// The shards, which take connections.
    pub shards: Vec<Handle<Dispatch>>,
    /// TLS, and the thread of its handshakes; none: the ports are plain.
    pub tls: Option<(Arc<Tls>, Handshakes)>,
    /// The most connections that the HTTP port may have open at once.
    pub http_connections: usize,
    /// The server's stage of life.
    pub life: watch::Receiver<Life>,
}

/// Hands each connection to the shard with the fewest, until the server drains. `next` accepts a
/// connection.
pub async fn accept(control: Rc<Control>, next: impl AsyncFn() -> io::Result<Socket>) {
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
        let ServerState { metrics, budget, .. } = &*self.state;
        let open = match self.connections.open(budget.account()) {
            Place::Free(open) => open,
            Place::OfIdle(open) => {
                metrics.connections_evicted.fetch_add(1, Relaxed);
                open
            }
            Place::None => {
                metrics.connections_refused.fetch_add(1, Relaxed);
                let limit = self.connections.limit();
                tracing::warn!("a connection is refused: all {limit} that may be open have work");
                return;
            }
        };
        metrics.connections.fetch_add(1, Relaxed);
        match (socket, &self.tls) {
            (Socket::Tcp(stream), Some((_, handshakes))) => handshakes.take(stream, open),
            (socket, _) => {
                if let Some(shard) = fewest(&self.shards) {
                    shard.connect(socket, open);
                }
            }
        }
    }

    /// The number of connections of gRPC that are open.
    pub fn open_connections(&self) -> usize {
        let under_way = self.tls.as_ref().map_or(0, |(_, handshakes)| handshakes.under_way());
        under_way + self.shards.iter().map(Handle::connections).sum::<usize>()
    }
}
