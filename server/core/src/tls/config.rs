//! How a server speaks TLS, by its certificates of now.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConnection;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::tls::credentials::{self, Credentials};
use crate::tls::{Session, TlsOptions};

/// Bytes that a session encrypts ahead of a client that takes them slowly.
const AHEAD_BYTES: usize = 64 << 10;
/// The protocol of gRPC, as ALPN names it.
const H2: &[u8] = b"h2";
/// The protocol of the HTTP port, as ALPN names it.
const HTTP: &[u8] = b"http/1.1";

/// The configuration of the TLS of a server, whose certificates may change while it runs.
#[derive(Debug)]
pub struct Tls {
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

/// The configurations in force.
#[derive(Debug)]
struct Current {
    grpc: Arc<rustls::ServerConfig>,
    http: Arc<rustls::ServerConfig>,
    /// The time after which the certificate is not valid, in seconds since 1970.
    expiry: i64,
}

impl Tls {
    /// TLS by the contents of the files that the options name. The error names the file.
    pub fn new(options: TlsOptions, contents: &[Vec<u8>]) -> Result<Self, String> {
        let provider = Arc::new(default_provider());
        let current = RwLock::new(Current::new(&options, &provider, contents)?);
        Ok(Self { options, provider, current })
    }

    /// Takes other contents of the files for the sessions that begin from now on. Where they cannot
    /// be used, the earlier ones stay, and the error names the file.
    pub fn take(&self, contents: &[Vec<u8>]) -> Result<(), String> {
        let current = Current::new(&self.options, &self.provider, contents)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(())
    }

    /// The time after which the server's certificate is not valid, in seconds since 1970.
    pub fn expiry(&self) -> i64 {
        self.current.read().unwrap_or_else(PoisonError::into_inner).expiry
    }

    /// Whether the HTTP port is over TLS.
    pub fn has_http(&self) -> bool {
        self.options.http
    }

    /// A session with a new client of the gRPC port.
    pub fn grpc_session(&self) -> Result<Session, rustls::Error> {
        session(&self.current.read().unwrap_or_else(PoisonError::into_inner).grpc)
    }

    /// A session with a new client of the HTTP port, who is asked for no certificate.
    pub fn http_session(&self) -> Result<Session, rustls::Error> {
        session(&self.current.read().unwrap_or_else(PoisonError::into_inner).http)
    }
}

fn session(config: &Arc<rustls::ServerConfig>) -> Result<Session, rustls::Error> {
    let mut session = ServerConnection::new(config.clone())?;
    session.set_buffer_limit(Some(AHEAD_BYTES));
    Ok(Box::new(session))
}

impl Current {
    fn new(
        options: &TlsOptions,
        provider: &Arc<CryptoProvider>,
        contents: &[Vec<u8>],
    ) -> Result<Self, String> {
        let Credentials { key, authorities, expiry } =
            credentials::read(options, provider, contents)?;
        let verifier = authorities.map(|authorities| {
            let builder =
                WebPkiClientVerifier::builder_with_provider(authorities, provider.clone());
            match options.client_required {
                true => builder.build(),
                false => builder.allow_unauthenticated().build(),
            }
            .map_err(|error| error.to_string())
        });
        let certificate = |protocol| Certificate { key: key.clone(), protocol };
        Ok(Self {
            grpc: config(provider, verifier.transpose()?, certificate(Some(H2)), H2)?,
            http: config(provider, None, certificate(None), HTTP)?,
            expiry,
        })
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    certificate: Certificate,
    protocol: &[u8],
) -> Result<Arc<rustls::ServerConfig>, String> {
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![protocol.into()];
    // A session is resumed by a ticket that the client keeps, and costs the server no memory. The
    // keys of tickets change by themselves, and with the files: a client is verified by the
    // authorities of now.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
    Ok(Arc::new(config))
}

/// The server's certificate, for clients that can speak the protocol of the port.
#[derive(Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    /// The protocol that a client must name; none: a client need name none. As other servers of
    /// gRPC do, this one refuses clients that do not say that they speak HTTP/2.
    protocol: Option<&'static [u8]>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A client that names other protocols is refused by ALPN itself, with an alert that says so.
        let is_known = self.protocol.is_none() || client.alpn().is_some();
        is_known.then(|| self.key.clone())
    }
}
