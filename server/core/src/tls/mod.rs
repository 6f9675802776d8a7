//! TLS on the server's ports: certificates, handshakes, and encrypted streams.

use std::path::PathBuf;

use rustls::ServerConnection;

pub mod config;
pub mod credentials;
pub mod handshake;
pub mod pem;
pub mod stream;

/// The files by which a server speaks TLS.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The server's certificate and those of its issuers, in PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, in PEM.
    pub key: PathBuf,
    /// The certificates, in PEM, of the authorities of clients' certificates; none: clients are
    /// asked for no certificate.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub client_required: bool,
    /// Whether the HTTP port is over TLS, too.
    pub http: bool,
}

impl TlsOptions {
    /// The flags that name the files, and the paths, in the order in which contents are taken.
    pub fn paths(&self) -> Vec<(&'static str, PathBuf)> {
        let pair = [("--tls-certificate", &self.certificate), ("--tls-key", &self.key)];
        let authorities = self.client_ca.iter().map(|path| ("--tls-client-ca", path));
        pair.into_iter().chain(authorities).map(|(flag, path)| (flag, path.clone())).collect()
    }
}

/// A session of TLS. It is in a box because it moves between threads, and is large.
pub type Session = Box<ServerConnection>;
