//! HTTP for operators: /healthz, /readyz and /metrics. A connection has one request and little
//! time, so that a client that sends nothing or takes nothing is soon gone. A connection makes room
//! even earlier where its descriptor is needed for a new one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_blocking, spawn_local, yield_now};

use crate::access::audit::Audit;
use crate::metrics::prometheus::Now;
use crate::server::acceptor::Control;
use crate::server::handshakes::counted;
use crate::tls::Session;
use crate::tls::config::Tls;
use crate::tls::handshake::{Broken, work};
use crate::tls::stream::Stream;

/// The most connections at once, where the limit of open files has room for them.
pub const CONNECTIONS: usize = 32;
/// Time for which a connection may be open: for its request, and until the answer is taken.
const TIME: Duration = Duration::from_secs(30);
/// Time to wait when a connection cannot be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves operators, also while the server drains.
pub async fn serve(control: Rc<Control>, listener: TcpListener) {
    let reserve = Rc::new(Reserve::new(control.http_connections + 1));
    // The tasks of the open connections, the oldest first.
    let mut open = VecDeque::new();
    loop {
        match poll_fn(|context| accept(&listener, &reserve, context)).await {
            Ok(stream) => {
                let place = Place(reserve.clone());
                open.retain(|connection: &JoinHandle<()>| !connection.is_finished());
                open.push_back(spawn_local(connection(control.clone(), stream, place)));
                // The connection is looked after before the next one is accepted, however many
                // come.
                yield_now().await;
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        // A descriptor is kept for the next client: the oldest connection makes room for it.
        while reserve.is_empty() && open.len() > 1 {
            if let Some(oldest) = open.pop_front() {
                oldest.abort();
                let _ = oldest.await;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    reserve: &Reserve,
    context: &mut Context<'_>,
) -> Poll<io::Result<TcpStream>> {
    // A descriptor is freed first, because the kernel looks for one before it looks for a
    // connection.
    reserve.give();
    let accepted = listener.poll_accept(context).map_ok(|(stream, _)| stream);
    if !matches!(accepted, Poll::Ready(Ok(_))) {
        reserve.take();
    }
    accepted
}

/// A reserve of open files. Their only use is that their descriptors are free the moment they are
/// closed, however many files the rest of the process has open. Each connection takes the place of
/// one.
#[derive(Debug)]
struct Reserve(RefCell<Vec<File>>);

impl Reserve {
    fn new(places: usize) -> Self {
        let reserve = Self(RefCell::default());
        (0..places).for_each(|_| reserve.take());
        reserve
    }

    /// Closes a file of the reserve, which frees a descriptor.
    fn give(&self) {
        self.0.borrow_mut().pop();
    }

    /// Opens a file, which takes a descriptor that is free into the reserve.
    fn take(&self) {
        self.0.borrow_mut().extend(File::open("/dev/null"));
    }

    fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// The place of a connection, whose descriptor goes back to the reserve when this is dropped.
struct Place(Rc<Reserve>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.take();
    }
}

async fn connection(control: Rc<Control>, stream: TcpStream, place: Place) {
    // The place is dropped after the stream, with nothing between, so that nobody else gets the
    // stream's descriptor.
    let _place = place;
    serve_one(&control, stream).await;
}

/// Serves a connection for as long as it may be open. The connection ends well, or its client is
/// gone or too slow: nobody waits for the result.
async fn serve_one(control: &Control, mut stream: TcpStream) {
    let served = async {
        match control.tls.as_ref().filter(|(tls, _)| tls.has_http()) {
            None => answer(control, stream).await,
            Some((tls, _)) => {
                if let Some(session) = shake(control, tls, &mut stream).await {
                    answer(control, Stream::new(stream, session)).await;
                }
            }
        }
    };
    let _ = tokio::time::timeout(TIME, served).await;
}

/// Does a handshake. The socket stays with this thread, where its descriptor is reckoned with; the
/// work is a helper's, because clients of gRPC and the next probe wait for this thread.
async fn shake(control: &Control, tls: &Tls, stream: &mut TcpStream) -> Option<Session> {
    let process = async |session| {
        let worked = spawn_blocking(|| work(session)).await;
        // A helper that panics takes the session along.
        worked.map_err(|error| Broken::Connection(io::Error::other(error)))
    };
    counted(&control.state, stream, tls.http_session().ok()?, process).await
}

async fn answer(control: &Control, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(control, request.method(), request.uri().path());
        async { Ok::<_, Infallible>(response) }
    });
    let connection =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

fn respond(control: &Control, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let ready = control.state.catalog.read().is_ready();
    let (status, kind, text) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, PLAIN, "alive\n".into()),
        (&Method::GET | &Method::HEAD, "/readyz") if ready => {
            (StatusCode::OK, PLAIN, "ready\n".into())
        }
        (&Method::GET | &Method::HEAD, "/readyz") => {
            (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready\n".into())
        }
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let budget = &control.state.budget;
            let now = Now {
                is_ready: ready,
                open_connections: control.open_connections(),
                message_bytes: budget.used(),
                message_bytes_limit: budget.limit(),
                audit_lines_dropped: control.state.access.audit.as_ref().map(Audit::dropped),
            };
            (StatusCode::OK, METRICS, control.state.metrics.text(now))
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
