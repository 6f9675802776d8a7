//! What all threads of a server share.

use std::sync::Arc;
use std::time::Duration;

use crate::grpc::budget::Budget;
use crate::metrics::Metrics;
use crate::model::catalog::Catalog;
use crate::model::control::ModelControl;
use crate::shared_memory::Regions;

/// What all threads of a server share.
#[derive(Debug)]
pub struct ServerState {
    /// Which models there are.
    pub catalog: Catalog,
    /// What was counted.
    pub metrics: Metrics,
    /// The longest that a client may take to begin to speak HTTP/2.
    pub handshake_time: Duration,
    /// The most metadata of a call, in bytes as HTTP/2 counts them.
    pub metadata_limit: usize,
    /// The longest message, in bytes.
    pub message_limit: usize,
    /// What all messages hold together.
    pub budget: Arc<Budget>,
    /// The longest that an idle shard looks for a request before it sleeps.
    pub busy_poll: Duration,
    /// Memory that clients share.
    pub regions: Regions,
    /// Whether clients may change what is logged.
    pub log_settings: bool,
    /// Where orders about models go, where clients may give any.
    pub orders: Option<ModelControl>,
    /// The name in ServerMetadata.
    pub server_name: String,
    /// The version in ServerMetadata.
    pub server_version: String,
}
