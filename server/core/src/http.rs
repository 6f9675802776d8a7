//! Answers operators over HTTP: /healthz, /readyz and /metrics.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::spawn_local;

use crate::listen::Control;
use crate::shard::Handle;

/// How long a client may take for its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves operators, during a drain too.
pub async fn serve(control: Rc<Control>, listener: tokio::net::TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let control = control.clone();
        let service = service_fn(move |request| {
            let response = answer(&control, &request);
            async { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        spawn_local(async { drop(connection.await) });
    }
}

fn answer(control: &Control, request: &Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    let ready = control.shared.catalog.read().is_ready();
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, PLAIN, "alive\n".into()),
        (&Method::GET | &Method::HEAD, "/readyz") if ready => {
            (StatusCode::OK, PLAIN, "ready\n".into())
        }
        (&Method::GET | &Method::HEAD, "/readyz") => {
            (StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready\n".into())
        }
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let open = control.shards.iter().map(Handle::connections).sum();
            let memory = &control.shared.memory;
            (StatusCode::OK, METRICS, control.shared.metrics.text(ready, open, memory))
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
