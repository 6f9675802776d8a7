//! gRPC over the crate `h2`: servers and their connections, calls, deadlines and retries.
//!
//! The transport knows bytes, not messages: a caller that encodes and decodes by itself, as a load
//! tester or the binding of another language does, uses a [`Channel`] without the
//! [`Client`](crate::Client).

mod call;
mod connection;
mod deadline;
mod frame;
mod retry;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use tokio::time::{Instant, timeout_at};

use crate::address::{self, Address};
use crate::error::{Code, Error, Result};
use crate::security::{Tls, Token};

pub use call::{Answers, Requests};
pub use frame::frame;

use connection::{Connection, Server};
use deadline::Timeout;
use retry::Schedule;

/// Options of a channel. `Options::default()` is plaintext, without a token, 10 seconds a call.
#[derive(Clone, Debug)]
pub struct Options {
    tls: Option<Tls>,
    token: Option<Token>,
    timeout: Option<Duration>,
    max_message_bytes: usize,
    max_attempts: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            token: None,
            timeout: Some(Duration::from_secs(10)),
            max_message_bytes: 64 << 20,
            max_attempts: 4,
        }
    }
}

impl Options {
    /// Speaks TLS; plaintext by default.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sends this token with every call; only over TLS, or to this machine.
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Time limit of a call, all its retries together; none for no limit. By default 10 seconds.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Most bytes of a message, sent or received; by default 64 MiB.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes.min(u32::MAX as usize);
        self
    }

    /// Most times that a call is tried, the first one included; by default 4, and 1 for no retries.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }
}

/// The name of a call, such as "/sigmax.v1.ClassifierService/Classify".
#[derive(Clone, Debug)]
pub struct Method(PathAndQuery);

impl Method {
    /// The call of this path.
    ///
    /// # Panics
    ///
    /// Where the path cannot be one.
    pub fn from_static(path: &'static str) -> Self {
        Self(PathAndQuery::from_static(path))
    }
}

/// The connections to one server, or to several that are asked in turn. Clones share them.
///
/// A connection is opened by the first call that needs it, in a task of tokio's runtime, and ends
/// with the last clone of the channel. A server that cannot be reached is left out while another can.
#[derive(Clone, Debug)]
pub struct Channel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: Vec<Arc<Server>>,
    /// The number of calls so far, which says whose turn it is.
    turn: AtomicUsize,
    /// The headers of every call, with the channel's own time limit.
    headers: HeaderMap,
    token: Option<Token>,
    timeout: Option<Timeout>,
    max_message_bytes: usize,
    max_attempts: u32,
}

impl Channel {
    /// A channel to the servers at `address`: "HOST:PORT", "unix:PATH", or several with commas
    /// between them. The port is 8001 where none is given.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT with the reason "BAD_ADDRESS", or "BAD_CREDENTIALS" where a file of TLS
    /// cannot be used or the token would be sent in plaintext to another machine.
    pub fn connect(address: &str, options: Options) -> Result<Self> {
        let addresses = address::parse(address)?;
        if options.token.is_some()
            && options.tls.is_none()
            && let Some(remote) = addresses.iter().find(|address| !address.is_local())
        {
            let problem = format!(
                "expected TLS to {remote}, for a token in plaintext can be read on the way"
            );
            return Err(Error::in_field("token", "BAD_CREDENTIALS", problem));
        }
        let connector = options.tls.as_ref().map(Tls::connector).transpose()?;
        let server = |address: Address| {
            let tls = options.tls.as_ref().zip(connector.clone());
            Server::new(address, tls).map(Arc::new)
        };
        let timeout = options.timeout.map(Timeout::new);
        Ok(Self(Arc::new(Inner {
            servers: addresses.into_iter().map(server).collect::<Result<_>>()?,
            turn: AtomicUsize::new(0),
            headers: headers(timeout.as_ref()),
            token: options.token,
            timeout,
            max_message_bytes: options.max_message_bytes,
            max_attempts: options.max_attempts,
        })))
    }

    /// Makes one call with one message ([`frame()`]), and returns the message of its answer.
    ///
    /// The call has `timeout`, or the channel's own where that is none, for all its tries. It is
    /// tried again after UNAVAILABLE and RESOURCE_EXHAUSTED, unless the server says that this is in
    /// vain.
    ///
    /// # Errors
    ///
    /// The status of the call's last try; DEADLINE_EXCEEDED where the time was over.
    pub async fn unary(
        &self,
        method: &Method,
        message: Bytes,
        timeout: Option<Duration>,
    ) -> Result<Bytes> {
        frame::check_length(message.len(), self.0.max_message_bytes)?;
        let mut schedule = Schedule::new(self.0.max_attempts);
        let given = timeout.map(Timeout::new);
        let first = given.as_ref().map_or(Limit::Own, |given| Limit::Of(given.header.clone()));
        let Some(Timeout { time, .. }) = given.as_ref().or(self.0.timeout.as_ref()) else {
            return self.tries(method, message, first, None, &mut schedule).await;
        };
        let deadline = Instant::now() + *time;
        let tries = self.tries(method, message, first, Some(deadline), &mut schedule);
        match timeout_at(deadline, tries).await {
            Ok(result) => result,
            Err(_) => Err(schedule.passed(*time)),
        }
    }

    /// Begins a call of many messages both ways. The call has `timeout`, or none, and is not tried
    /// again.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE where no server can be reached.
    pub async fn stream(
        &self,
        method: &Method,
        timeout: Option<Duration>,
    ) -> Result<(Requests, Answers)> {
        let timeout = timeout.map(Timeout::new);
        let limit = timeout.as_ref().map(|timeout| timeout.header.clone());
        let headers = self.headers(limit.map_or(Limit::None, Limit::Of))?;
        let deadline = timeout.map(|timeout| (Instant::now() + timeout.time, timeout.time));
        let connection = match deadline {
            None => self.connection().await?,
            Some((deadline, time)) => timeout_at(deadline, self.connection())
                .await
                .unwrap_or_else(|_| Err(deadline::passed(time)))?,
        };
        call::stream(connection, method, headers, self.0.max_message_bytes, deadline)
    }

    /// Tries a call until `schedule` ends it or a pause would reach the deadline; `limit` is the
    /// time limit of the first try.
    async fn tries(
        &self,
        method: &Method,
        message: Bytes,
        mut limit: Limit,
        deadline: Option<Instant>,
        schedule: &mut Schedule,
    ) -> Result<Bytes> {
        loop {
            let error = match self.one_try(method, message.clone(), limit).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(pause) = schedule.pause_after(&error) else { return Err(error) };
            let next = Instant::now() + pause;
            limit = match deadline {
                Some(deadline) if next >= deadline => return Err(error),
                Some(deadline) => Limit::Of(deadline::header(deadline - next)),
                None => Limit::None,
            };
            if !pause.is_zero() {
                tokio::time::sleep_until(next).await;
            }
        }
    }

    async fn one_try(&self, method: &Method, message: Bytes, limit: Limit) -> Result<Bytes> {
        let headers = self.headers(limit)?;
        let connection = match self.open_connection() {
            Some(connection) => connection,
            None => self.connection().await?,
        };
        call::unary(connection, method, headers, message, self.0.max_message_bytes).await
    }

    /// The headers of a call, with this time limit or none in place of the channel's.
    fn headers(&self, timeout: Limit) -> Result<HeaderMap> {
        let mut headers = self.0.headers.clone();
        match timeout {
            Limit::Own => {}
            Limit::Of(timeout) => drop(headers.insert(TIMEOUT, timeout)),
            Limit::None => drop(headers.remove(TIMEOUT)),
        }
        if let Some(token) = &self.0.token {
            headers.insert(header::AUTHORIZATION, token.header()?);
        }
        Ok(headers)
    }

    /// The place of the server whose turn it is.
    fn next(&self) -> usize {
        self.0.turn.fetch_add(1, Ordering::Relaxed) % self.0.servers.len()
    }

    /// The open connection whose turn it is; none where none is found open. Servers without one are
    /// connected meanwhile, and give their turn to the next.
    fn open_connection(&self) -> Option<Connection> {
        let servers = &self.0.servers;
        for _ in servers {
            let server = &servers[self.next()];
            match server.connection() {
                Some(connection) => return Some(connection),
                None if servers.len() > 1 => server.connect_aside(),
                None => {}
            }
        }
        None
    }

    /// A connection to the first server that can be reached, from the one whose turn it is.
    async fn connection(&self) -> Result<Connection> {
        let (before, after) = self.0.servers.split_at(self.next());
        let mut result = Err(Error::new(Code::Unavailable, "there is no server"));
        for server in after.iter().chain(before) {
            result = server.connect().await;
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// What a call's headers say of its time limit.
enum Limit {
    /// The limit is the channel's own.
    Own,
    /// The value of `grpc-timeout`.
    Of(HeaderValue),
    /// There is no limit.
    None,
}

/// The headers of every call of a channel with this time limit.
fn headers(timeout: Option<&Timeout>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
    if let Some(timeout) = timeout {
        headers.insert(TIMEOUT, timeout.header.clone());
    }
    headers
}

/// The header of a call's time limit.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The name of this client, as gRPC's own libraries say theirs.
const AGENT: &str = concat!("sigmax-rust/", env!("CARGO_PKG_VERSION"));
