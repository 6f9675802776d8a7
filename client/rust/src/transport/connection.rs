//! The connection to one server.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::{Authority, Scheme};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::address::Address;
use crate::error::{Code, Error, Result, Retry};
use crate::security::Tls;

/// The most time that a connection takes to be made, TLS included.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time for which a server that could not be reached is not tried again: calls that fail together
/// make one attempt, not one each.
const PAUSE: Duration = Duration::from_millis(100);

/// Time after which the kernel finds out that a server has vanished, and that between its tries.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// HTTP/2 limits for what the server sends: bytes of one answer and of all under way, before the
/// client takes them; bytes of a frame.
const WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME: u32 = 1 << 20;

/// An open connection: how calls of one server begin.
pub(super) struct Connection {
    pub(super) client: SendRequest<Bytes>,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
}

/// One server and the connection to it.
pub(super) struct Server {
    address: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    scheme: Scheme,
    authority: Authority,
    open: Mutex<Option<SendRequest<Bytes>>>,
    /// Held by whoever makes a connection; when the last attempt failed, and how.
    attempt: tokio::sync::Mutex<Option<(Instant, Error)>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Server({:?}, {})", self.address, self.scheme)
    }
}

impl Server {
    pub(super) fn new(address: Address, tls: Option<(&Tls, TlsConnector)>) -> Result<Self> {
        let host = match &address {
            Address::Tcp { host, .. } => host,
            Address::Unix(_) => "localhost",
        };
        let given = tls.as_ref().and_then(|(tls, _)| tls.given_name());
        let named = given.map_or_else(|| address.to_string(), str::to_owned);
        let wrong = |error| Error::in_field("address", "BAD_ADDRESS", format!("{named}: {error}"));
        let authority = Authority::try_from(named.as_str()).map_err(wrong)?;
        let named = |(tls, connector): (&Tls, _)| tls.name(host).map(|name| (connector, name));
        let scheme = if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let tls = tls.map(named).transpose()?;
        let (open, attempt) = Default::default();
        Ok(Self { address, tls, scheme, authority, open, attempt })
    }

    /// The connection, where one is open that takes calls.
    pub(super) fn connection(&self) -> Option<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = open.clone()?;
        // A clone that has sent nothing is ready, or the connection has ended.
        match client.poll_ready(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(Err(_)) => {
                *open = None;
                None
            }
            _ => Some(self.with(client)),
        }
    }

    fn with(&self, client: SendRequest<Bytes>) -> Connection {
        let (scheme, authority) = (self.scheme.clone(), self.authority.clone());
        Connection { client, scheme, authority }
    }

    /// Makes a connection, unless there is one or another call makes one meanwhile. A call that is
    /// given up does not end the attempt.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Connection> {
        let attempt = tokio::spawn(self.clone().attempt());
        attempt.await.unwrap_or_else(|error| Err(self.not_connected(error)))
    }

    /// Has a connection made, and does not wait for it.
    pub(super) fn connect_aside(self: &Arc<Self>) {
        if self.attempt.try_lock().is_ok_and(|last| failed_just_now(&last).is_none()) {
            tokio::spawn(self.clone().attempt());
        }
    }

    async fn attempt(self: Arc<Self>) -> Result<Connection> {
        let mut last = self.attempt.lock().await;
        if let Some(connection) = self.connection() {
            return Ok(connection);
        }
        if let Some(error) = failed_just_now(&last) {
            return Err(error);
        }
        let opened = tokio::time::timeout(PATIENCE, self.open()).await;
        let opened = opened.unwrap_or_else(|_| {
            Err(self.not_connected(format!("no connection within {PATIENCE:?}")))
        });
        match opened {
            Ok(client) => {
                *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
                *last = None;
                Ok(self.with(client))
            }
            Err(error) => {
                *last = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<SendRequest<Bytes>> {
        match &self.address {
            Address::Tcp { host, port } => {
                let target = (host.as_str(), *port);
                let cannot = |error| self.not_connected(error);
                let stream = TcpStream::connect(target).await.map_err(cannot)?;
                prepare(&stream).map_err(cannot)?;
                self.secure(stream).await
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                self.secure(stream.map_err(|error| self.not_connected(error))?).await
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(self.not_connected("this system has no Unix sockets")),
        }
    }

    async fn secure<S>(&self, stream: S) -> Result<SendRequest<Bytes>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some((connector, name)) = &self.tls else {
            return self.speak(stream).await;
        };
        let cannot = |error: io::Error| match is_fault_of_tls(&error) {
            true => self.tls_failed(error),
            false => self.not_connected(error),
        };
        let session = connector.connect(name.clone(), stream).await.map_err(cannot)?;
        match session.get_ref().1.alpn_protocol() {
            Some(b"h2") => self.speak(session).await,
            _ => Err(self.tls_failed("the server does not speak HTTP/2")),
        }
    }

    /// Begins HTTP/2, which a task of its own drives from then on.
    async fn speak<S>(&self, stream: S) -> Result<SendRequest<Bytes>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|error| self.not_connected(error))?;
        // The connection's calls hear of its end themselves.
        tokio::spawn(async { drop(connection.await) });
        Ok(client)
    }

    fn not_connected(&self, problem: impl fmt::Display) -> Error {
        self.failed("cannot connect to", problem).because("NOT_CONNECTED")
    }

    /// The error of TLS, which another try does not mend.
    fn tls_failed(&self, problem: impl fmt::Display) -> Error {
        self.failed("no TLS with", problem).because("TLS_FAILED").then(Retry::Never)
    }

    fn failed(&self, what: &str, problem: impl fmt::Display) -> Error {
        let to = match &self.address {
            Address::Unix(path) => format!("unix:{}", path.display()),
            address => address.to_string(),
        };
        Error::new(Code::Unavailable, format!("{what} {to}: {problem}"))
    }
}

fn failed_just_now(last: &Option<(Instant, Error)>) -> Option<Error> {
    last.as_ref().filter(|(at, _)| at.elapsed() < PAUSE).map(|(_, error)| error.clone())
}

/// Whether the peer speaks no TLS, or does not like ours, or we not its own.
fn is_fault_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Has requests leave at once, and the kernel find out that the server has vanished.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (time, interval) = KEEPALIVE;
    let keepalive = socket2::TcpKeepalive::new().with_time(time).with_interval(interval);
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(interval))?;
    Ok(())
}
