//! A fake network, for tests and for measuring the server alone.

use std::mem::size_of;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Engine, EngineError, Source};
use crate::model::TensorSpec;
use crate::model::device::{Device, GpuOptions};
use crate::tensor::{DType, Tensor, TensorView};

/// A network that answers FP32 rows, input `x` [-1, columns], with themselves, output `y`
/// [-1, columns].
///
/// A row that begins with one of the constants below fails the whole batch, as in a real network.
/// Clones share everything that happens: a test keeps one and gives the other to the server.
///
/// A run takes no time, or as long as its gate is closed. The cost that a run is given passes on
/// the clock of its engine, so that the warm-up's timings do not depend on the machine.
#[derive(Clone, Debug)]
pub struct Fake {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    run_cost: Duration,
    row_cost: Duration,
    gpu_row_cost: Duration,
    dependent: bool,
    device: Device,
    now: Instant,
    controls: Arc<Controls>,
}

/// The state that a test sees and steers from outside.
#[derive(Debug, Default)]
struct Controls {
    gate: Mutex<Gate>,
    turned: Condvar,
    sizes: Mutex<Vec<usize>>,
    /// The devices of the engines made, in the order in which they were made.
    made: Mutex<Vec<Device>>,
    /// Devices on which no engine can be made.
    broken: Mutex<Vec<Device>>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    held: usize,
}

/// The least cost of a run.
const LEAST: Duration = Duration::from_micros(1);

impl Fake {
    /// A row that begins with this is refused by the network.
    pub const REFUSED: f32 = -1001.0;
    /// A row that begins with this makes the engine fail.
    pub const FAULT: f32 = -1002.0;
    /// A row that begins with this makes the engine panic.
    pub const PANIC: f32 = -1003.0;
    /// A row that begins with this makes the engine's device fail.
    pub const DEVICE_LOST: f32 = -1004.0;

    /// A network over rows of `columns` elements.
    pub fn new(columns: usize) -> Self {
        let spec = |name| TensorSpec::new(name, DType::Fp32, &[-1, columns as i64]);
        Self {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            run_cost: Duration::ZERO,
            row_cost: Duration::ZERO,
            gpu_row_cost: Duration::ZERO,
            dependent: false,
            device: Device::Cpu,
            now: Instant::now(),
            controls: Arc::default(),
        }
    }

    /// Makes a run cost the time `run`, and the time `row` more for each row.
    pub fn with_cost(mut self, run: Duration, row: Duration) -> Self {
        (self.run_cost, self.row_cost) = (run, row);
        self
    }

    /// Makes each row of a run on a GPU cost the time `row` instead.
    pub fn with_gpu_cost(mut self, row: Duration) -> Self {
        self.gpu_row_cost = row;
        self
    }

    /// Adds the number of rows of the batch to every element, so that rows depend on each other.
    pub fn with_dependent_rows(mut self) -> Self {
        self.dependent = true;
        self
    }

    /// Holds every run that begins from now on, until [`Fake::open`].
    pub fn close(&self) {
        lock(&self.controls.gate).closed = true;
    }

    /// Lets the held runs go on, and later runs pass.
    pub fn open(&self) {
        lock(&self.controls.gate).closed = false;
        self.controls.turned.notify_all();
    }

    /// Blocks until at least `runs` runs are held.
    pub fn wait_until_held(&self, runs: usize) {
        let gate = lock(&self.controls.gate);
        let gate = self.controls.turned.wait_while(gate, |gate| gate.held < runs);
        drop(gate.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets no engine be made, or pass a check, on these devices, until the next call.
    pub fn break_devices(&self, devices: &[Device]) {
        *lock(&self.controls.broken) = devices.to_vec();
    }

    /// The devices of all engines made since the last call, in the order in which they were made.
    pub fn take_made(&self) -> Vec<Device> {
        std::mem::take(&mut *lock(&self.controls.made))
    }

    /// The rows of every run begun since the last call, in the order in which the runs began.
    pub fn take_sizes(&self) -> Vec<usize> {
        std::mem::take(&mut *lock(&self.controls.sizes))
    }
}

impl Controls {
    fn works(&self, device: Device) -> Result<(), EngineError> {
        match lock(&self.broken).contains(&device) {
            true => Err(EngineError::Device(format!("{device} is broken"))),
            false => Ok(()),
        }
    }

    fn pass(&self) {
        let mut gate = lock(&self.gate);
        gate.held += 1;
        self.turned.notify_all();
        let gate = self.turned.wait_while(gate, |gate| gate.closed);
        gate.unwrap_or_else(PoisonError::into_inner).held -= 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source for Fake {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn engine(
        &self,
        device: Device,
        _: GpuOptions,
        _: Instant,
    ) -> Result<Box<dyn Engine>, EngineError> {
        self.controls.works(device)?;
        lock(&self.controls.made).push(device);
        Ok(Box::new(Self { device, ..self.clone() }))
    }
}

impl Engine for Fake {
    fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError> {
        let [Some(TensorView { dtype: DType::Fp32, shape: &[rows, columns], data })] = *inputs
        else {
            return Err(EngineError::Fault(format!("expected one FP32 matrix, got {inputs:?}")));
        };
        lock(&self.controls.sizes).push(rows);
        self.controls.pass();
        for row in data.chunks_exact((columns * size_of::<f32>()).max(1)) {
            match bytemuck::pod_read_unaligned(&row[..size_of::<f32>()]) {
                Self::REFUSED => return Err(EngineError::Refused("a row is refused".into())),
                Self::FAULT => return Err(EngineError::Fault("a row is a fault".into())),
                Self::PANIC => panic!("a row is a panic"),
                Self::DEVICE_LOST => return Err(EngineError::Device("a row is a loss".into())),
                _ => {}
            }
        }
        let row_cost = match self.device {
            Device::Cpu => self.row_cost,
            Device::Cuda(_) => self.gpu_row_cost,
        };
        self.now += LEAST.max(self.run_cost + row_cost * rows as u32);
        let data = if self.dependent {
            let elements = data.chunks_exact(size_of::<f32>());
            let moved = elements.map(|e| bytemuck::pod_read_unaligned::<f32>(e) + rows as f32);
            Bytes::from(bytemuck::cast_slice(&moved.collect::<Vec<_>>()).to_vec())
        } else {
            Bytes::copy_from_slice(data)
        };
        Ok(vec![Tensor { dtype: DType::Fp32, shape: vec![rows, columns], data }])
    }

    fn check(&mut self) -> Result<(), EngineError> {
        self.controls.works(self.device)
    }

    fn now(&self) -> Instant {
        self.now
    }
}
