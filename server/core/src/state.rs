//! The state that all threads of a server share.

use std::sync::Arc;
use std::time::Duration;

use crate::access::Access;
use crate::grpc::budget::Budget;
use crate::metrics::Metrics;
use crate::model::catalog::Catalog;
use crate::model::control::ModelControl;
use crate::shared_memory::Regions;

/// The state that all threads of a server share.
#[derive(Debug)]
pub struct ServerState {
    /// The models that there are, and where each stands.
    pub catalog: Catalog,
    /// The counters of the whole server.
    pub metrics: Metrics,
    /// Who clients are, and what they may do.
    pub access: Arc<Access>,
    /// Whether clients are told the services and messages.
    pub reflection: bool,
    /// The longest time that a client may take to begin to speak HTTP/2.
    pub handshake_time: Duration,
    /// The time after which a client is asked to connect anew, give or take a tenth; none: never.
    pub connection_age: Option<Duration>,
    /// The longest time for which the calls of a connection that has reached its age go on.
    pub connection_age_grace: Duration,
    /// The most bytes of a call's metadata, as HTTP/2 counts them.
    pub metadata_limit: usize,
    /// The longest message, in bytes.
    pub message_limit: usize,
    /// The budget of the bytes that all messages hold together.
    pub budget: Arc<Budget>,
    /// The longest time for which an idle shard looks for a request before it sleeps; zero: it does
    /// not look.
    pub busy_poll: Duration,
    /// The regions of shared memory that clients have registered.
    pub regions: Regions,
    /// Whether clients may change what is logged.
    pub log_settings: bool,
    /// The control of models, which takes clients' orders; none where they may give none.
    pub model_control: Option<ModelControl>,
    /// The server's name in ServerMetadata.
    pub server_name: String,
    /// The server's version in ServerMetadata.
    pub server_version: String,
}
