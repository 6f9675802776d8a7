//! The other end of a connection.

use std::net::SocketAddr;

/// The client at the other end of a connection, as far as the connection shows who it is.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The client's address; none: it came over a Unix domain socket.
    pub address: Option<SocketAddr>,
    /// The certificate, in DER, by which the client has proved who it is in TLS; none: it has shown
    /// none.
    pub certificate: Option<Vec<u8>>,
}
