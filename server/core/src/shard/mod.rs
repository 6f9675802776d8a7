//! Shards: one thread each, with an event loop, connections and a table of models of its own.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::sync::watch;

use crate::lifecycle::Life;
use crate::shard::busy_poll::BusyPoll;
use crate::shard::connections::Open;
use crate::shard::handle::Handle;
use crate::shard::models::Models;
use crate::shard::peer::Peer;
use crate::state::ServerState;

pub mod authority;
pub mod busy_poll;
pub mod calls;
pub mod connection;
pub mod connections;
pub mod event_loop;
pub mod handle;
pub mod models;
pub mod peer;
pub mod socket;

/// The state that the tasks of one shard share.
#[derive(Debug)]
pub struct Shard {
    /// The state that all threads of the server share.
    pub state: Arc<ServerState>,
    /// The server's stage of life.
    pub life: watch::Receiver<Life>,
    /// The models that the shard serves.
    pub models: Models,
    /// The busy polling that keeps the shard's loop awake.
    pub busy_poll: BusyPoll,
}

/// A service that answers the calls of a shard's connections. The event loop is started with one,
/// and knows nothing else of it.
pub trait Service: Sized + 'static {
    /// The work on one call, to the last byte of its answer.
    type Call: Future<Output = ()>;

    /// The client at the other end of a connection, as the service knows it.
    type Client;

    /// The service of one shard, which other threads reach by this handle.
    fn new(shard: Shard, handle: Handle<Self>) -> Self;

    /// The shard that the service runs on.
    fn shard(&self) -> &Shard;

    /// The client of a connection that begins.
    fn client(&self, peer: Peer) -> Self::Client;

    /// Begins a call of a connection. The returned future does the work.
    fn begin(
        self: &Rc<Self>,
        connection: &Open,
        client: &Self::Client,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Self::Call;
}
