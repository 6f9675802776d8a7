//! The least that any gRPC server on hyper does: it reads a message and answers with fixed bytes.
//!
//!     echo REPLY_BYTES [HOST:PORT | unix:PATH]
//!
//! No protobuf, no queue, no model; one thread, and the settings of `shard.rs`. Whatever a server
//! takes longer than this is its own. Port 0, the default, is any free one.
#![allow(clippy::print_stdout, reason = "that is how it says that it is ready")]

use std::convert::Infallible;
use std::error::Error;
use std::future::ready;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

#[path = "../src/calls.rs"]
mod calls;

use calls::Calls;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let size: u32 = arguments.next().ok_or("expected the reply's size in bytes")?.parse()?;
    let address = arguments.next().unwrap_or("127.0.0.1:0".into());
    // A gRPC message: not compressed, its length, its bytes.
    let mut message = vec![0; 5 + size as usize];
    message[1..5].copy_from_slice(&size.to_be_bytes());
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(listen(&address, message.into()))
}

async fn listen(address: &str, message: Bytes) -> Result<(), Box<dyn Error>> {
    if let Some(path) = address.strip_prefix("unix:") {
        let listener = UnixListener::bind(path)?;
        println!("ready: gRPC {address}, HTTP none;");
        loop {
            spawn_local(serve(listener.accept().await?.0, message.clone()));
        }
    }
    let listener = TcpListener::bind(address).await?;
    println!("ready: gRPC {}, HTTP none;", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        spawn_local(serve(stream, message.clone()));
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, message: Bytes) {
    let calls = Calls::default();
    let connection = http2::Builder::new(calls.clone())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(1024)
        .auto_date_header(false)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| answer(request, message.clone())),
        );
    // A client that goes away is no failure.
    let _ = calls.run(connection).await;
}

async fn answer(
    request: Request<Incoming>,
    message: Bytes,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(message).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
