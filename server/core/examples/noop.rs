//! The server around a network that does no work. It shows what everything but the network costs.
//!
//!     noop [HOST:PORT]
//!
//! The server has the model `sequential` (FP32 rows of 10 to FP32 rows of 5) on one shard, and
//! prints the line that `sigmax serve` prints when it is ready. Port 0, the default, is any free
//! one.
#![allow(clippy::print_stdout, reason = "that is how it says that it is ready")]

use std::error::Error;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use sigmax_core::engine::{Engine, EngineError, Source};
use sigmax_core::loading::description::Described;
use sigmax_core::model::device::{Device, GpuOptions};
use sigmax_core::model::head::{Head, Task};
use sigmax_core::model::{ModelSpec, TensorSpec};
use sigmax_core::server::Server;
use sigmax_core::server::config::ServerConfig;
use sigmax_core::tensor::{DType, Tensor, TensorView};

const CLASSES: usize = 5;
const ROWS: usize = 1024;

/// A network that answers every row with the same probabilities.
#[derive(Clone, Debug)]
struct Noop {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// The answer to a batch of `ROWS` rows, which is the largest.
    answer: Bytes,
}

impl Noop {
    fn new() -> Self {
        let row = [0.1_f32, 0.2, 0.4, 0.2, 0.1].map(f32::to_le_bytes);
        Self {
            inputs: vec![TensorSpec::new("features", DType::Fp32, &[-1, 10])],
            outputs: vec![TensorSpec::new("probabilities", DType::Fp32, &[-1, CLASSES as i64])],
            answer: row.concat().repeat(ROWS).into(),
        }
    }
}

impl Source for Noop {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn engine(&self, _: Device, _: GpuOptions, _: Instant) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(self.clone()))
    }
}

impl Engine for Noop {
    fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError> {
        let [Some(TensorView { shape: &[rows, _], .. })] = *inputs else {
            return Err(EngineError::Fault(format!("expected one matrix, got {inputs:?}")));
        };
        let data = self.answer.slice(..rows * CLASSES * size_of::<f32>());
        Ok(vec![Tensor { dtype: DType::Fp32, shape: vec![rows, CLASSES], data }])
    }
}

fn spec(noop: &Noop) -> ModelSpec {
    ModelSpec {
        name: "sequential".into(),
        version: 1,
        inputs: noop.inputs.clone(),
        outputs: noop.outputs.clone(),
        max_batch_size: ROWS,
        heads: vec![Head {
            name: String::new(),
            output: 0,
            task: Task::Multiclass,
            labels: ["a", "b", "c", "d", "e"].map(String::from).to_vec(),
            thresholds: vec![],
        }],
        ..Default::default()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".into());
    let (host, port) = address.rsplit_once(':').ok_or("expected HOST:PORT")?;
    let server = Server::start(ServerConfig {
        host: host.into(),
        grpc_port: port.parse()?,
        queue_rows: 16 * ROWS,
        max_connections: 10_000,
        server_name: "noop".into(),
        ..Default::default()
    })?;
    let noop = Noop::new();
    let spec = spec(&noop);
    server.declare(&spec.name, spec.version);
    let later = sigmax_core::engine::watchdog::from_now(std::time::Duration::MAX);
    let described = Described { source: Box::new(noop), spec, samples: vec![] };
    server.publish(server.load(described, later)?);
    server.finish_loading();
    println!("ready: gRPC {}, HTTP {};", server.grpc_address(), server.http_address());
    loop {
        thread::park();
    }
}
