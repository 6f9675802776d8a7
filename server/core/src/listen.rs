//! The control thread: accepts connections and hands each to a shard; answers HTTP for operators.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockRef, TcpKeepalive, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::shard::{Handle, Life, Shared};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long a client of the HTTP port may take for its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is silent before its client is looked for, who may have vanished.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long to wait when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds a port; 0 is any free one. The error names the address.
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let listen = |address: SocketAddr| {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    (host, port)
        .to_socket_addrs()
        .and_then(|mut addresses| {
            addresses.next().ok_or_else(|| io::Error::other("the name has no address"))
        })
        .and_then(listen)
        .map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {host}:{port}: {error}"))
        })
}

/// A connection as it was accepted, to be given to any thread.
#[derive(Debug)]
pub enum Socket {
    /// From anywhere.
    Tcp(TcpStream),
    /// From this machine.
    Unix(UnixStream),
}

/// A socket in the file system that listens; the file goes when this is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl UnixSocket {
    /// Listens at this path. A socket file that nobody listens at is replaced; the error names the
    /// path.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let is_socket = |data: fs::Metadata| data.file_type().is_socket();
        let is_left = fs::symlink_metadata(path).is_ok_and(is_socket)
            && UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        let bound = match is_left {
            true => fs::remove_file(path),
            false => Ok(()),
        };
        bound
            .and_then(|()| UnixListener::bind(path))
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(Self { path: path.into(), listener })
            })
            .map_err(|error| {
                let place = path.display();
                io::Error::new(error.kind(), format!("cannot listen on unix:{place}: {error}"))
            })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What clients connect to.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC.
    pub grpc: TcpListener,
    /// gRPC for clients on this machine.
    pub unix: Option<UnixSocket>,
    /// For operators.
    pub http: TcpListener,
}

/// What the control thread works on.
#[derive(Debug)]
pub struct Control {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Those that take connections.
    pub shards: Vec<Handle>,
    /// Open connections at once over all shards.
    pub max_connections: usize,
    /// How far the end has come.
    pub life: watch::Receiver<Life>,
}

/// Starts the thread. It ends when life is over.
pub fn start(control: Control, listeners: Listeners) -> io::Result<JoinHandle<()>> {
    let (started, starts) = blocking::channel();
    let thread = thread::Builder::new().name("control".into()).spawn(move || {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(Rc::new(control), listeners, started)),
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    starts.recv().unwrap_or_else(|_| Err(io::Error::other("the control thread did not start")))?;
    Ok(thread)
}

async fn run(
    control: Rc<Control>,
    listeners: Listeners,
    started: blocking::Sender<io::Result<()>>,
) {
    // Its file goes with this function.
    let Listeners { grpc, unix, http } = listeners;
    if let Err(error) = accept_all(&control, grpc, unix.as_ref(), http) {
        return drop(started.send(Err(error)));
    }
    let _ = started.send(Ok(()));
    let _ = control.life.clone().wait_for(|life| *life == Life::Over).await;
}

fn accept_all(
    control: &Rc<Control>,
    grpc: TcpListener,
    unix: Option<&UnixSocket>,
    http: TcpListener,
) -> io::Result<()> {
    let grpc = tokio::net::TcpListener::from_std(grpc)?;
    let http = tokio::net::TcpListener::from_std(http)?;
    if let Some(UnixSocket { listener, .. }) = unix {
        let unix = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
        let next = async move || Ok(Socket::Unix(unix.accept().await?.0.into_std()?));
        spawn_local(accept(control.clone(), next));
    }
    let next = async move || {
        let stream = grpc.accept().await?.0;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        Ok(Socket::Tcp(stream.into_std()?))
    };
    spawn_local(accept(control.clone(), next));
    spawn_local(accept_http(control.clone(), http));
    Ok(())
}

/// Hands each connection to the shard with the fewest, until the server drains.
async fn accept(control: Rc<Control>, next: impl AsyncFn() -> io::Result<Socket>) {
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
        let metrics = &self.shared.metrics;
        let open: usize = self.shards.iter().map(Handle::connections).sum();
        let Some(shard) = self.shards.iter().min_by_key(|shard| shard.connections()) else {
            return;
        };
        if open >= self.max_connections {
            metrics.connections_refused.fetch_add(1, Relaxed);
            tracing::warn!(
                open,
                "a connection is refused: expected at most {}",
                self.max_connections
            );
            return;
        }
        metrics.connections.fetch_add(1, Relaxed);
        shard.connect(socket);
    }

    fn answer(&self, request: &Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let ready = self.shared.catalog.read().is_ready();
        let (status, kind, text) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, PLAIN, "alive\n".into()),
            (&Method::GET | &Method::HEAD, "/readyz") if ready => {
                (StatusCode::OK, PLAIN, "ready\n".into())
            }
            (&Method::GET | &Method::HEAD, "/readyz") => {
                (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready\n".into())
            }
            (&Method::GET | &Method::HEAD, "/metrics") => {
                let open = self.shards.iter().map(Handle::connections).sum();
                let memory = &self.shared.memory;
                (StatusCode::OK, METRICS, self.shared.metrics.text(ready, open, memory))
            }
            (_, "/healthz" | "/readyz" | "/metrics") => {
                (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "expected GET\n".into())
            }
            _ => {
                let text = "expected /metrics, /healthz or /readyz\n";
                (StatusCode::NOT_FOUND, PLAIN, text.into())
            }
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        let kind = header::HeaderValue::from_static(kind);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves operators, during a drain too.
async fn accept_http(control: Rc<Control>, listener: tokio::net::TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let control = control.clone();
        let service = service_fn(move |request| {
            let response = control.answer(&request);
            async { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        spawn_local(async { drop(connection.await) });
    }
}
