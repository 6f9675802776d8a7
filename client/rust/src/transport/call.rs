//! One try of a call, from its headers to its trailers.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::uri::{Parts, Uri};
use http::{HeaderMap, Request, Response, StatusCode};
use prost::Message;
use tokio::time::{Instant, timeout_at};

use crate::error::{Code, Error, Result, Retry};
use crate::transport::connection::Connection;
use crate::transport::frame::{self, Frames, frame};
use crate::transport::{Method, deadline};

/// Sends one message, and returns the one message of the answer.
pub(super) async fn unary(
    connection: Connection,
    method: &Method,
    headers: HeaderMap,
    message: Bytes,
    most: usize,
) -> Result<Bytes> {
    let (response, mut requests) = begin(connection, method, headers)?;
    requests.send_data(message, true).map_err(broken)?;
    let mut body = opened(response.await.map_err(broken)?)?;
    let mut frames = Frames::new(most);
    let mut answer = None;
    while let Some(piece) = body.data().await {
        take(&mut body, &mut frames, piece)?;
        if answer.is_none() {
            answer = frames.next()?;
        }
    }
    end(&mut body).await?;
    answer.filter(|_| frames.is_empty()).ok_or_else(|| {
        Error::new(Code::Internal, "the server's answer: expected one message and status 0")
    })
}

/// Begins a call of many messages; `deadline` with its time limit.
pub(super) fn stream(
    connection: Connection,
    method: &Method,
    headers: HeaderMap,
    most: usize,
    deadline: Option<(Instant, Duration)>,
) -> Result<(Requests, Answers)> {
    let (response, stream) = begin(connection, method, headers)?;
    let state = State::Head(response);
    Ok((Requests { stream, most }, Answers { state, frames: Frames::new(most), deadline }))
}

fn begin(
    mut connection: Connection,
    method: &Method,
    headers: HeaderMap,
) -> Result<(ResponseFuture, SendStream<Bytes>)> {
    let mut parts = Parts::default();
    parts.scheme = Some(connection.scheme);
    parts.authority = Some(connection.authority);
    parts.path_and_query = Some(method.0.clone());
    let invalid = |error| Error::new(Code::Internal, format!("{error}"));
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_parts(parts).map_err(invalid)?;
    *request.method_mut() = http::Method::POST;
    *request.headers_mut() = headers;
    // The server has seen nothing of a call that cannot begin.
    let unsent = |error| broken(error).then(Retry::AtOnce);
    connection.client.send_request(request, false).map_err(unsent)
}

/// The body of an answer that has begun.
fn opened(response: Response<RecvStream>) -> Result<RecvStream> {
    let status = response.status();
    if status != StatusCode::OK {
        let code = match status.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        let message = format!("expected an answer of gRPC, got HTTP status {status}");
        return Err(Error::new(code, message));
    }
    if response.headers().contains_key("grpc-status")
        && let Some(error) = Error::from_trailers(response.headers())
    {
        return Err(error);
    }
    Ok(response.into_body())
}

fn take(
    body: &mut RecvStream,
    frames: &mut Frames,
    piece: std::result::Result<Bytes, h2::Error>,
) -> Result<()> {
    let piece = piece.map_err(broken)?;
    // The stream may have ended meanwhile, and then has no window.
    let _ = body.flow_control().release_capacity(piece.len());
    frames.push(piece);
    Ok(())
}

/// Reads the trailers; an error is theirs.
async fn end(body: &mut RecvStream) -> Result<()> {
    let trailers = body.trailers().await.map_err(broken)?;
    Error::from_trailers(&trailers.unwrap_or_default()).map_or(Ok(()), Err)
}

/// The error of a stream or a connection that broke off.
fn broken(error: h2::Error) -> Error {
    let code = match error.reason() {
        _ if error.is_io() || error.is_go_away() => Code::Unavailable,
        Some(Reason::REFUSED_STREAM) => Code::Unavailable,
        Some(Reason::CANCEL) => Code::Cancelled,
        Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        _ => Code::Internal,
    };
    let broken = Error::new(code, format!("the connection or the call broke off: {error}"));
    // A server that wants a certificate may say so when TLS stands already (RFC 8446, 4.4.2.4).
    if error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
        return broken.because("TLS_FAILED").then(Retry::Never);
    }
    // The server has not begun a stream that it refuses, nor one after the last that its GOAWAY
    // names.
    let is_unseen = error.is_remote()
        && (error.reason() == Some(Reason::REFUSED_STREAM)
            || error.is_go_away() && error.reason() == Some(Reason::NO_ERROR));
    if is_unseen { broken.then(Retry::AtOnce) } else { broken }
}

/// The requests of a call of many messages.
#[derive(Debug)]
pub struct Requests {
    stream: SendStream<Bytes>,
    most: usize,
}

impl Requests {
    /// Sends one message, as soon as the server takes it.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED where the message is too large; else the call is over, and its
    /// [`Answers`] say why.
    pub async fn send(&mut self, message: &impl Message) -> Result<()> {
        let mut rest = frame(message);
        frame::check_length(rest.len(), self.most)?;
        while !rest.is_empty() {
            self.stream.reserve_capacity(rest.len());
            if self.stream.capacity() == 0 {
                let room = poll_fn(|context| self.stream.poll_capacity(context)).await;
                let over = || Error::new(Code::Cancelled, "the call is over");
                room.ok_or_else(over)?.map_err(broken)?;
            }
            let piece = rest.split_to(self.stream.capacity().min(rest.len()));
            self.stream.send_data(piece, false).map_err(broken)?;
        }
        Ok(())
    }

    /// Says that no more requests follow. Without it, dropping this breaks the call off.
    pub fn finish(mut self) {
        // Where the call is over, its answers say so.
        let _ = self.stream.send_data(Bytes::new(), true);
    }
}

/// The answers of a call of many messages.
#[derive(Debug)]
pub struct Answers {
    state: State,
    frames: Frames,
    deadline: Option<(Instant, Duration)>,
}

#[derive(Debug)]
enum State {
    Head(ResponseFuture),
    Body(RecvStream),
    End,
}

impl Answers {
    /// The next message; none after the last.
    ///
    /// # Errors
    ///
    /// The status of the call, which is over then.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let result = match self.deadline {
            None => self.read().await,
            Some((deadline, time)) => timeout_at(deadline, self.read())
                .await
                .unwrap_or_else(|_| Err(deadline::passed(time))),
        };
        if !matches!(result, Ok(Some(_))) {
            self.state = State::End;
        }
        result
    }

    async fn read(&mut self) -> Result<Option<Bytes>> {
        loop {
            match &mut self.state {
                State::Head(response) => {
                    self.state = State::Body(opened(response.await.map_err(broken)?)?);
                }
                State::Body(body) => {
                    if let Some(message) = self.frames.next()? {
                        return Ok(Some(message));
                    }
                    match body.data().await {
                        Some(piece) => take(body, &mut self.frames, piece)?,
                        None => return end(body).await.map(|()| None),
                    }
                }
                State::End => return Ok(None),
            }
        }
    }
}
