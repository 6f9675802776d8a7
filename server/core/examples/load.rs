//! A driver of load. In an open loop, requests begin when they are due, whether earlier ones are
//! answered or not; in a closed loop, each follows an answer.
//!
//!     taskset --cpu-list 1 load PLAN.json
//!
//! A plan names an address (`HOST:PORT` or `unix:PATH`), how many `seconds` it lasts, and `loads`
//! that run at once:
//!
//!     {"address": "127.0.0.1:8001", "seconds": 5, "loads": [{
//!         "name": "small", "path": "/inference.GRPCInferenceService/ModelInfer",
//!         "request": "FILE", "answer": "FILE", "connections": 4,
//!         "rate": 1000.0, "even": false, "deadline_ms": 50.0
//!     }]}
//!
//! `request` and `answer` name files, each of one message with gRPC's prefix; an answer that is
//! given is compared with every one that comes. With a `rate` (requests a second; Poisson, or
//! evenly spaced) the loop is open: times count from when a request was due, not from when there
//! was room to send it. With `streams` in place of `rate` the loop is closed: so many calls under
//! way on each connection. The thread never sleeps while a loop is open; it wants a core of its
//! own.
//!
//! A plan with an `authority`, the file of a certificate in PEM, asks over TLS.
//!
//! The program prints one JSON object with what came of each load; times are in microseconds.
#![allow(clippy::print_stdout, reason = "that is how it reports")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{spawn_local, yield_now};
use tokio_rustls::TlsConnector;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Time that answers may take that are under way when a plan's seconds are over.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let file = std::env::args().nth(1).ok_or("expected a plan's file")?;
    let plan: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    println!("{}", runtime.block_on(run(&plan))?);
    Ok(())
}

async fn run(plan: &Value) -> Result<Value> {
    let address = plan["address"].as_str().ok_or("expected an address")?;
    let tls = plan["authority"].as_str().map(connector).transpose()?;
    let seconds = plan["seconds"].as_f64().ok_or("expected seconds")?;
    let mut loads = Vec::new();
    for entry in plan["loads"].as_array().ok_or("expected loads")? {
        let load = Rc::new(Load::read(entry)?);
        let mut connections = Vec::new();
        for _ in 0..entry["connections"].as_u64().unwrap_or(1) {
            connections.push(connect(address, tls.as_ref()).await?);
        }
        loads.push((load, connections));
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds);
    let mut tasks = Vec::new();
    let mut results = Vec::new();
    for (load, connections) in loads {
        results.push(load.clone());
        match load.kind {
            Loop::Open { .. } => tasks.push(spawn_local(open_loop(load, connections, begin, end))),
            Loop::Closed { streams } => {
                for client in connections.iter().flat_map(|client| vec![client; streams]) {
                    tasks.push(spawn_local(closed_loop(load.clone(), client.clone(), end)));
                }
            }
        }
    }
    for task in tasks {
        task.await?;
    }
    let under_way = || results.iter().any(|load| load.tally.borrow().under_way > 0);
    while under_way() && end.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reports = results.iter().map(|load| load.report(seconds));
    Ok(json!({ "loads": reports.collect::<Vec<_>>() }))
}

/// One kind of request, sent over and over.
struct Load {
    name: String,
    request: Request<()>,
    message: Bytes,
    answer: Option<Bytes>,
    deadline: Option<Duration>,
    kind: Loop,
    tally: RefCell<Tally>,
}

/// The loop that sends a load's requests.
enum Loop {
    /// Requests are sent when they are due, `rate` a second, at even gaps or those of a Poisson
    /// process.
    Open { rate: f64, even: bool },
    /// Requests follow the answers, `streams` at once on each connection.
    Closed { streams: usize },
}

/// The counts and times of what came of a load.
#[derive(Default)]
struct Tally {
    /// The number of requests that were due within the plan's seconds.
    offered: u64,
    /// The number of requests that were not sent, because no connection had a free stream before
    /// the deadline, or before the end.
    unsent: u64,
    /// The number of requests that are sent and neither answered nor broken off.
    under_way: u64,
    /// The number of requests answered rightly, and within the deadline from when they were due.
    good: u64,
    /// The number of requests answered rightly, but after the deadline.
    late: u64,
    /// The number of requests answered with something else than the answer that is given.
    wrong: u64,
    /// The number of requests without an answer and its status: the stream or its connection broke.
    broken: u64,
    /// The number of requests refused, by gRPC's status code.
    refused: BTreeMap<u32, u64>,
    /// Nanoseconds from when a request was due to its right answer.
    times: Vec<u64>,
    /// Nanoseconds from when a request was due to its refusal.
    refusal_times: Vec<u64>,
    /// Nanoseconds from when a request was due until it was sent.
    lags: Vec<u64>,
}

enum Outcome {
    Right,
    Wrong,
    Refused(u32),
}

impl Load {
    fn read(entry: &Value) -> Result<Self> {
        let text = |key| entry[key].as_str().ok_or(format!("a load has no {key}"));
        let streams = entry["streams"].as_u64().unwrap_or(1) as usize;
        let deadline = entry["deadline_ms"].as_f64().map(|ms| Duration::from_secs_f64(ms / 1e3));
        let mut request = Request::post(format!("http://localhost{}", text("path")?))
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        if let Some(deadline) = deadline {
            request = request.header("grpc-timeout", format!("{}u", deadline.as_micros()));
        }
        Ok(Self {
            name: text("name")?.into(),
            request: request.body(())?,
            message: fs::read(text("request")?)?.into(),
            answer: entry["answer"].as_str().map(fs::read).transpose()?.map(Bytes::from),
            deadline,
            kind: match entry["rate"].as_f64() {
                Some(rate) => Loop::Open { rate, even: entry["even"].as_bool() == Some(true) },
                None => Loop::Closed { streams },
            },
            tally: RefCell::default(),
        })
    }

    /// Sends one request on a connection that has a free stream. Returns the response to come; none
    /// where the connection is broken.
    fn send(&self, client: &mut SendRequest<Bytes>, due: Instant) -> Option<ResponseFuture> {
        let mut tally = self.tally.borrow_mut();
        tally.offered += 1;
        tally.lags.push(due.elapsed().as_nanos() as u64);
        let sent =
            client.send_request(self.request.clone(), false).and_then(|(response, mut to)| {
                to.send_data(self.message.clone(), true)?;
                Ok(response)
            });
        match sent {
            Ok(_) => tally.under_way += 1,
            Err(_) => tally.broken += 1,
        }
        sent.ok()
    }

    /// Takes the answer to a request that was due then, and counts it.
    async fn receive(&self, response: ResponseFuture, due: Instant) {
        let outcome = self.outcome(response).await;
        let time = due.elapsed();
        let mut tally = self.tally.borrow_mut();
        tally.under_way -= 1;
        match outcome {
            Ok(Outcome::Right) => {
                tally.times.push(time.as_nanos() as u64);
                match self.deadline {
                    Some(deadline) if time > deadline => tally.late += 1,
                    _ => tally.good += 1,
                }
            }
            Ok(Outcome::Wrong) => tally.wrong += 1,
            Ok(Outcome::Refused(code)) => {
                tally.refusal_times.push(time.as_nanos() as u64);
                *tally.refused.entry(code).or_default() += 1;
            }
            Err(_) => tally.broken += 1,
        }
    }

    async fn outcome(&self, response: ResponseFuture) -> std::result::Result<Outcome, h2::Error> {
        let response = response.await?;
        let in_head = status(response.headers());
        let mut body = response.into_body();
        let mut expected = self.answer.as_deref();
        let mut right = true;
        while let Some(data) = body.data().await {
            let data = data?;
            let _ = body.flow_control().release_capacity(data.len());
            if let Some(rest) = expected {
                right &= rest.starts_with(&data);
                expected = rest.get(data.len()..).or(Some(&[]));
            }
        }
        let status = match in_head {
            Some(status) => status,
            None => body.trailers().await?.and_then(|trailers| status(&trailers)).unwrap_or(2),
        };
        Ok(match status {
            0 if right && expected.is_none_or(<[u8]>::is_empty) => Outcome::Right,
            0 => Outcome::Wrong,
            code => Outcome::Refused(code),
        })
    }

    fn report(&self, seconds: f64) -> Value {
        let mut tally = self.tally.borrow_mut();
        let tally = &mut *tally;
        let right = tally.times.len() as u64;
        json!({
            "name": self.name,
            "seconds": seconds,
            "offered": tally.offered,
            "sent": tally.offered - tally.unsent,
            "unsent": tally.unsent,
            "unanswered": tally.under_way,
            "right": right,
            "good": tally.good,
            "late": tally.late,
            "wrong": tally.wrong,
            "broken": tally.broken,
            "refused": tally.refused,
            "times": quantiles(&mut tally.times),
            "refusal_times": quantiles(&mut tally.refusal_times),
            "lags": quantiles(&mut tally.lags),
        })
    }
}

/// The status in these headers or trailers; none where there is no status.
fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// The mean and the quantiles of times, in microseconds; null where there are no times.
fn quantiles(nanoseconds: &mut [u64]) -> Value {
    nanoseconds.sort_unstable();
    let count = nanoseconds.len();
    if count == 0 {
        return Value::Null;
    }
    let at =
        |share: f64| nanoseconds[((count as f64 * share) as usize).min(count - 1)] as f64 / 1e3;
    let mean = nanoseconds.iter().sum::<u64>() as f64 / count as f64 / 1e3;
    json!({ "mean": mean, "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "most": at(1.0) })
}

/// The maker of sessions of TLS that trust this authority.
fn connector(authority: &str) -> Result<TlsConnector> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_slice(&fs::read(authority)?)?)?;
    let mut config = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config).into())
}

async fn connect(address: &str, tls: Option<&TlsConnector>) -> Result<SendRequest<Bytes>> {
    match address.strip_prefix("unix:") {
        Some(path) => speak(UnixStream::connect(path).await?).await,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            match tls {
                None => speak(stream).await,
                Some(tls) => {
                    let name = ServerName::try_from("localhost")?;
                    speak(tls.connect(name, stream).await?).await
                }
            }
        }
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> Result<SendRequest<Bytes>> {
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(1 << 20)
        .initial_max_send_streams(1024)
        .enable_push(false)
        .handshake(stream)
        .await?;
    // The connection's calls hear of its end themselves.
    spawn_local(async { drop(connection.await) });
    Ok(client)
}

/// Sends requests as they are due, round the connections.
async fn open_loop(
    load: Rc<Load>,
    mut connections: Vec<SendRequest<Bytes>>,
    begin: Instant,
    end: Instant,
) {
    let Loop::Open { rate, even } = load.kind else { return };
    let mut chance = Chance(load.message.len() as u64 + 1);
    let mut due = begin;
    let mut turn = 0;
    while due < end {
        let now = Instant::now();
        while due <= now && due < end {
            let overdue = now >= end || load.deadline.is_some_and(|most| now - due > most);
            match free(&mut connections, &mut turn) {
                Some(client) if !overdue => {
                    if let Some(response) = load.send(client, due) {
                        let load = load.clone();
                        spawn_local(async move { load.receive(response, due).await });
                    }
                }
                _ if overdue => {
                    let mut tally = load.tally.borrow_mut();
                    tally.offered += 1;
                    tally.unsent += 1;
                }
                _ => break,
            }
            due += Duration::from_secs_f64(if even { 1.0 } else { chance.gap() } / rate);
        }
        yield_now().await;
    }
}

/// The next connection after `turn` that has a free stream; none where no connection has one.
fn free<'a>(
    connections: &'a mut [SendRequest<Bytes>],
    turn: &mut usize,
) -> Option<&'a mut SendRequest<Bytes>> {
    let count = connections.len();
    let mut context = Context::from_waker(Waker::noop());
    for step in 1..=count {
        let at = (*turn + step) % count;
        if connections[at].poll_ready(&mut context).is_ready() {
            *turn = at;
            return Some(&mut connections[at]);
        }
    }
    None
}

/// Sends the next request when the last one is answered, until `end`.
async fn closed_loop(load: Rc<Load>, client: SendRequest<Bytes>, end: Instant) {
    let Ok(mut client) = client.ready().await else { return };
    loop {
        let due = Instant::now();
        if due >= end {
            return;
        }
        let Some(response) = load.send(&mut client, due) else { return };
        load.receive(response, due).await;
    }
}

/// Random numbers, the same ones every time (xorshift64, Marsaglia 2003).
struct Chance(u64);

impl Chance {
    /// The next gap of a Poisson process, in mean gaps.
    fn gap(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The number is in (0, 1], so that the logarithm is never that of 0.
        let uniform = ((self.0 >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        -uniform.ln()
    }
}
