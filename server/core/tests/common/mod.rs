//! A real server over a fake network, and a client that sees the frames.
#![allow(dead_code, reason = "each test file takes what it needs")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use sigmax_core::engine::{Source, fake::Fake};
use sigmax_core::loading::description::Described;
use sigmax_core::loading::golden::Sample;
use sigmax_core::model::head::{Head, Task};
use sigmax_core::model::{ModelSpec, Placement, Report};
use sigmax_core::proto::inference::model_infer_request::InferInputTensor;
use sigmax_core::proto::inference::{ModelInferRequest, ModelInferResponse};
use sigmax_core::proto::sigmax::{ClassifyRequest, ClassifyResponse, Tensor, tensor::Data};
use sigmax_core::server::Server;
use sigmax_core::server::config::ServerConfig;
use sigmax_core::tensor::{self, DType, aligned};
use tonic::Status;

pub const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
pub const CLASSIFY: &str = "/sigmax.v1.ClassifierService/Classify";

/// A time that is longer than anything here takes, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A network that the server runs in a worker, because a run takes a while.
pub fn heavy() -> Fake {
    Fake::new(2).with_cost(Duration::from_millis(2), Duration::ZERO)
}

/// A server on free ports with one shard, which serves the network as "fake".
pub fn serve(fake: &Fake, change: impl FnOnce(&mut ServerConfig)) -> Server {
    let server = start(change);
    load(&server, fake, vec![vec![Placement::default()]]).expect("it loads");
    server.finish_loading();
    assert!(server.is_ready());
    fake.take_sizes();
    server
}

/// A server on free ports with one shard and no model.
pub fn start(change: impl FnOnce(&mut ServerConfig)) -> Server {
    let mut config = ServerConfig {
        queue_rows: 1000,
        max_message_bytes: 1 << 20,
        memory_budget: 64 << 20,
        ..Default::default()
    };
    change(&mut config);
    Server::start(config).expect("it starts")
}

/// Loads and publishes the network as "fake".
pub fn load(
    server: &Server,
    fake: &Fake,
    placements: Vec<Vec<Placement>>,
) -> Result<Report, String> {
    publish(server, fake, ModelSpec { placements, ..ModelSpec::default() }, vec![])
}

/// A server like that of [`serve`], whose "fake" classifies: its rows are probabilities.
pub fn serve_classifier(fake: &Fake, change: impl FnOnce(&mut ServerConfig)) -> Server {
    let server = start(change);
    let head = Head {
        name: String::new(),
        output: 0,
        task: Task::Multiclass,
        labels: vec![],
        thresholds: vec![],
    };
    let data = aligned(&row_bytes([0.25, 0.75]));
    let row = tensor::Tensor { dtype: DType::Fp32, shape: vec![1, 2], data };
    let sample = Sample { inputs: vec![row.clone()], outputs: vec![row] };
    let spec = ModelSpec { heads: vec![head], ..ModelSpec::default() };
    publish(&server, fake, spec, vec![sample]).expect("it loads");
    server.finish_loading();
    fake.take_sizes();
    server
}

fn publish(
    server: &Server,
    fake: &Fake,
    spec: ModelSpec,
    samples: Vec<Sample>,
) -> Result<Report, String> {
    let spec = ModelSpec {
        name: "fake".into(),
        inputs: fake.inputs().to_vec(),
        outputs: fake.outputs().to_vec(),
        max_batch_size: 64,
        ..spec
    };
    server.declare("fake", 1);
    let until = Instant::now() + Duration::from_secs(600);
    let source = Box::new(fake.clone());
    let loaded = server.load(Described { source, spec, samples }, until);
    let loaded = loaded.map_err(|error| error.to_string())?;
    let report = loaded.model.report.clone();
    server.publish(loaded);
    Ok(report)
}

/// A client with one connection.
#[derive(Clone)]
pub struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub async fn connect(server: &Server) -> Self {
        let stream =
            tokio::net::TcpStream::connect(server.grpc_address()).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Waits until the server has closed the connection.
    pub async fn closed(mut self) {
        while self.0.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Begins a call. The deadline is kept by the server, not by this client.
    pub async fn send(
        &self,
        path: &str,
        message: impl Message,
        timeout: Option<Duration>,
    ) -> Response<Incoming> {
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(message.encoded_len() as u32);
        message.encode(&mut body).expect("room");
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", format!("{}m", timeout.as_millis()));
        }
        let request = request.body(Full::new(body.freeze())).expect("valid");
        self.0.clone().send_request(request).await.expect("an answer")
    }

    /// Makes a call with at most one reply; the error is a status other than OK.
    pub async fn call<R: Message + Default>(
        &self,
        path: &str,
        message: impl Message,
        timeout: Option<Duration>,
    ) -> Result<Option<R>, Status> {
        let response = self.send(path, message, timeout).await;
        let headers = response.headers().clone();
        let body = response.into_body().collect().await.expect("all of it");
        let status = Status::from_header_map(body.trailers().unwrap_or(&headers));
        match status.expect("a status") {
            status if status.code() != tonic::Code::Ok => Err(status),
            _ => Ok(body.to_bytes().get(5..).map(|reply| R::decode(reply).expect("a reply"))),
        }
    }

    /// The one row that the server answers to this row.
    pub async fn infer(
        &self,
        row: [f32; 2],
        timeout: Option<Duration>,
    ) -> Result<[f32; 2], Status> {
        let input = InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1, 2],
            ..Default::default()
        };
        let request = ModelInferRequest {
            model_name: "fake".into(),
            inputs: vec![input],
            raw_input_contents: vec![row_bytes(row)],
            ..Default::default()
        };
        let reply: ModelInferResponse = self.call(INFER, request, timeout).await?.expect("a reply");
        let floats = reply.raw_output_contents[0].chunks_exact(4);
        let floats: Vec<_> =
            floats.map(|f| f32::from_le_bytes(f.try_into().expect("4 bytes"))).collect();
        Ok(floats.try_into().expect("one row"))
    }

    pub async fn classify(&self, row: [f32; 2]) -> Result<ClassifyResponse, Status> {
        let request = classify_request(row);
        Ok(self.call(CLASSIFY, request, None).await?.expect("a reply"))
    }

    /// Begins a call of `infer` in a task; the answer comes with `await`.
    pub fn start(
        &self,
        row: [f32; 2],
        timeout: Option<Duration>,
    ) -> tokio::task::JoinHandle<Result<[f32; 2], Status>> {
        let client = self.clone();
        tokio::spawn(async move { client.infer(row, timeout).await })
    }
}

pub fn classify_request(row: [f32; 2]) -> ClassifyRequest {
    let data = Some(Data::Raw(row_bytes(row)));
    let input = Tensor { shape: vec![1, 2], data, ..Default::default() };
    ClassifyRequest { model_name: "fake".into(), inputs: vec![input], ..Default::default() }
}

fn row_bytes(row: [f32; 2]) -> Bytes {
    row.iter().flat_map(|f| f.to_le_bytes()).collect()
}

/// Reads the server's metrics until so many rows wait.
pub async fn until_queued(server: &Server, rows: usize) {
    until_metrics(server, &queued(rows)).await;
}

/// The line of the metrics that says that so many rows wait.
pub fn queued(rows: usize) -> String {
    format!("sigmax_queued_rows{{model=\"fake\",version=\"1\"}} {rows}")
}

/// Reads the server's metrics until they have this line.
pub async fn until_metrics(server: &Server, line: &str) {
    let patience = Instant::now() + PATIENCE;
    while let Err(metrics) = have_metrics(server, line).await {
        assert!(Instant::now() < patience, "expected {line} in {metrics}");
    }
}

/// Checks that the server's metrics have this line; the error is all of the metrics. They are read
/// on another thread, so that the client's tasks go on.
pub async fn have_metrics(server: &Server, line: &str) -> Result<(), String> {
    let address = server.http_address();
    let metrics = tokio::task::spawn_blocking(move || get(address, "/metrics"));
    let metrics = metrics.await.expect("no panic");
    metrics.lines().any(|each| each == line).then_some(()).ok_or(metrics)
}

pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    // The request is written in one piece, because the kernel keeps small ones back until the first
    // has been acknowledged.
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// Waits until so many runs are held, on another thread, so that the client's tasks go on.
pub async fn until_held(fake: &Fake, runs: usize) {
    let fake = fake.clone();
    let waiting = tokio::task::spawn_blocking(move || fake.wait_until_held(runs));
    waiting.await.expect("no panic");
}
