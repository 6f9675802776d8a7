//! The least that any gRPC server on h2 does: it reads a message and answers with fixed bytes.
//!
//!     echo REPLY_BYTES [HOST:PORT | unix:PATH]
//!
//! It has no protobuf, no queue and no model, one thread, and the windows, frames and streams of
//! `src/shard/connection.rs`. The time that a server takes beyond this one's is its own. Port 0,
//! the default, is any free one.
#![allow(clippy::print_stdout, reason = "that is how it says that it is ready")]

use std::error::Error;
use std::future::pending;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder as Runtime, LocalOptions};
use tokio::task::spawn_local;

#[path = "../src/shard/calls.rs"]
#[allow(dead_code, reason = "its connections end by themselves")]
mod calls;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let size: u32 = arguments.next().ok_or("expected the reply's size in bytes")?.parse()?;
    let address = arguments.next().unwrap_or("127.0.0.1:0".into());
    // A gRPC message: the flag 0, which is not compressed, then the length, then the bytes.
    let mut message = vec![0; 5 + size as usize];
    message[1..5].copy_from_slice(&size.to_be_bytes());
    let runtime = Runtime::new_current_thread().enable_all().build_local(LocalOptions::default())?;
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
    let handshake = Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(calls::CALLS as u32)
        .handshake(stream);
    let Ok(connection) = handshake.await else { return };
    let begin = |request, reply| answer(request, reply, message.clone()).boxed_local();
    // A client that goes away is no failure.
    let _ = calls::run(connection, pending(), begin).await;
}

async fn answer(request: Request<RecvStream>, mut reply: SendResponse<Bytes>, message: Bytes) {
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Ok(mut stream) = reply.send_response(head, false) {
        let _ = stream.send_data(message, false);
        let _ = stream.send_trailers(trailers);
    }
}
