//! The configuration of a server.

use std::path::PathBuf;
use std::time::Duration;

use crate::access::options::AccessOptions;
use crate::model::device::GpuOptions;
use crate::tls::TlsOptions;

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address that the port of gRPC is bound on, by name or number.
    pub host: String,
    /// The port of gRPC; 0: any free one.
    pub grpc_port: u16,
    /// The path of a Unix domain socket at which gRPC is served as well; none: no such socket.
    pub unix_socket: Option<PathBuf>,
    /// The port of HTTP for operators; 0: any free one.
    pub http_port: u16,
    /// The address that the port of HTTP is bound on.
    pub http_host: String,
    /// TLS; none: the ports are plain.
    pub tls: Option<TlsOptions>,
    /// The ways in which clients say who they are.
    pub access: AccessOptions,
    /// Whether clients are told the services and messages.
    pub reflection: bool,
    /// Threads that answer requests; at least 1.
    pub shards: usize,
    /// The most rows that may wait for one model.
    pub queue_rows: usize,
    /// The longest message, in bytes.
    pub max_message_bytes: usize,
    /// Whether clients may register shared memory.
    pub shared_memory: bool,
    /// Whether clients may load and unload models.
    pub model_control: bool,
    /// Whether a model's files may come with a client's request to load it.
    pub allow_model_upload: bool,
    /// Whether clients may change what is logged.
    pub log_settings: bool,
    /// The most connections of gRPC that are open at once.
    pub max_connections: usize,
    /// The longest time that a client may take to begin to speak HTTP/2.
    pub handshake_time: Duration,
    /// The time after which a client is asked to connect anew, give or take a tenth; none: never.
    pub max_connection_age: Option<Duration>,
    /// The longest time for which the calls of a connection that has reached its age go on.
    pub max_connection_age_grace: Duration,
    /// The most bytes of a call's metadata, as HTTP/2 counts them.
    pub max_metadata_bytes: usize,
    /// The most bytes that all messages and answers may hold together. No message may be longer
    /// than half of it.
    pub memory_budget: usize,
    /// The longest time for which a client may keep a message half sent or an answer untaken.
    pub stall_time: Duration,
    /// The longest time for which an idle shard looks for a request before it sleeps; zero: it does
    /// not look.
    pub busy_poll: Duration,
    /// The longest time that one run of a model may take.
    pub run_time: Duration,
    /// The most bytes that one run of a model may allocate on the host.
    pub run_memory: usize,
    /// The longest time that a worker may take to get another engine.
    pub load_time: Duration,
    /// The options of models on GPUs.
    pub gpu: GpuOptions,
    /// The server's name in ServerMetadata.
    pub server_name: String,
    /// The server's version in ServerMetadata.
    pub server_version: String,
    /// Whether the server is ready only when every model is; otherwise it is when any is.
    pub strict_readiness: bool,
}

impl Default for ServerConfig {
    /// Free ports on the loopback interface, one shard, and the defaults of the flags of `sigmax
    /// serve`, except that the limits of memory do not depend on the machine.
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            grpc_port: 0,
            unix_socket: None,
            http_port: 0,
            http_host: "127.0.0.1".into(),
            tls: None,
            access: AccessOptions::default(),
            reflection: true,
            shards: 1,
            queue_rows: 65_536,
            max_message_bytes: 64 << 20,
            shared_memory: false,
            model_control: false,
            allow_model_upload: false,
            log_settings: false,
            max_connections: 4096,
            handshake_time: Duration::from_secs(10),
            max_connection_age: None,
            max_connection_age_grace: Duration::from_secs(30),
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
