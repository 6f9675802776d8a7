//! How a server is to run.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::device::GpuOptions;

/// How a server is to run.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address both ports are bound on, by name or number.
    pub host: String,
    /// 0: any free one.
    pub grpc_port: u16,
    /// The path of a Unix domain socket at which gRPC is served as well.
    pub unix_socket: Option<PathBuf>,
    /// 0: any free one.
    pub http_port: u16,
    /// Threads that answer requests; at least 1.
    pub shards: usize,
    /// Rows that may wait for one model.
    pub queue_rows: usize,
    /// The longest message, in bytes.
    pub max_message_bytes: usize,
    /// Clients may register shared memory.
    pub shared_memory: bool,
    /// Clients may load and unload models.
    pub model_control: bool,
    /// Models may come with a request.
    pub allow_model_upload: bool,
    /// Clients may change what is logged.
    pub log_settings: bool,
    /// Open connections at once.
    pub max_connections: usize,
    /// The longest that a client may take to begin to speak HTTP/2.
    pub handshake_time: Duration,
    /// The most metadata of a call, in bytes as HTTP/2 counts them.
    pub max_metadata_bytes: usize,
    /// What all messages and answers may hold together, in bytes; the longest message is half of it.
    pub memory_budget: usize,
    /// The longest that a client may keep a message half sent or an answer untaken.
    pub stall_time: Duration,
    /// The longest that an idle shard looks for a request before it sleeps.
    pub busy_poll: Duration,
    /// The longest run of a model.
    pub run_time: Duration,
    /// The most that a run allocates on the host, in bytes.
    pub run_memory: usize,
    /// The longest that a worker takes to get another engine.
    pub load_time: Duration,
    /// How models are run on GPUs.
    pub gpu: GpuOptions,
    /// The name in ServerMetadata.
    pub server_name: String,
    /// The version in ServerMetadata.
    pub server_version: String,
    /// Ready means every model is; otherwise any.
    pub strict_readiness: bool,
}

impl Default for ServerConfig {
    /// Free ports on the loopback interface, one shard, and what the flags of `sigmax serve` are
    /// where nobody sets them.
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            grpc_port: 0,
            unix_socket: None,
            http_port: 0,
            shards: 1,
            queue_rows: 65_536,
            max_message_bytes: 64 << 20,
            shared_memory: false,
            model_control: false,
            allow_model_upload: false,
            log_settings: false,
            max_connections: 4096,
            handshake_time: Duration::from_secs(10),
            max_metadata_bytes: 64 << 10,
            memory_budget: 1 << 30,
            stall_time: Duration::from_secs(60),
            busy_poll: Duration::ZERO,
            run_time: Duration::from_secs(60),
            run_memory: 1 << 30,
            load_time: Duration::from_secs(300),
            gpu: GpuOptions::default(),
            server_name: "triton".into(),
            server_version: "0".into(),
            strict_readiness: true,
        }
    }
}
