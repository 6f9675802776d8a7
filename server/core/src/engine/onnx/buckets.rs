//! An engine whose batches are of few sizes, in memory that stays where it is.
//!
//! Fixed memory and few sizes make a batch's copies and launches cheap on a GPU. A batch is copied
//! into the fixed memory, filled up with rows of zeros to the next size, and run from there. Where
//! the graph allows it, each size is captured once as a CUDA graph and replayed ever after.
//!
//! All sizes share the memory of the largest, because a worker runs one batch at a time. A row that
//! an earlier batch has left is zeroed before a batch that would see it is run.

use std::fmt::Display;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;

use super::binding::{self, Binding};
use super::memory::{Memory, Pair};
use super::session::{File, Options, Place, Plain};
use crate::engine::{Bounds, Engine, EngineError};
use crate::model::TensorSpec;
use crate::tensor::{DType, Tensor, TensorView, byte_size};

/// The lock of captures. While a graph is captured, no thread may allocate or wait on any GPU of
/// the process, or the capture fails: every run holds the lock shared, and a capture holds it
/// alone.
static CAPTURE: RwLock<()> = RwLock::new(());
/// The lock of engines being made, which are made one after the other: an engine takes long to
/// load, and no run is to wait for a capture that waits for a load.
static MAKING: Mutex<()> = Mutex::new(());

/// The most bytes that all inputs and outputs of the largest size may take.
const MOST_BYTES: usize = 256 << 20;
/// The most sizes; each is twice the one before, so the last power is 2^31 rows.
const MOST_SIZES: usize = 32;

/// Does work that allocates on a GPU, or waits for one, while no graph is captured.
pub(super) fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// The engine. A batch that fits into no size is run as it comes. The parts are there until the
/// engine is dropped.
#[derive(Debug)]
pub(super) struct Bucketed(Option<Parts>);

/// The fields are dropped in this order: what was made ready goes before the memory that it uses.
#[derive(Debug)]
struct Parts {
    ready: Option<Ready>,
    plain: Plain,
    memory: Box<dyn Memory>,
    file: Arc<File>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    place: Place,
    /// The time by which the engine is to be ready.
    until: Instant,
    /// Whether batches are replayed as CUDA graphs, as [`Engine::graphs`] says it.
    graphs: String,
}

/// The sizes that have been made ready, and their memory.
#[derive(Debug)]
struct Ready {
    /// The sizes by rising rows.
    sizes: Vec<Size>,
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
    has_batch: bool,
    /// The first row from which on all inputs on the device are zero.
    used: usize,
}

/// A number of rows that has been made ready.
#[derive(Debug)]
struct Size {
    rows: usize,
    binding: Binding,
    options: Options,
}

/// An input or output in its fixed memory.
#[derive(Debug)]
struct Buffer {
    name: String,
    dtype: DType,
    /// The sizes of one row's axes; of all axes where there is no batch axis.
    shape: Vec<usize>,
    row_bytes: usize,
    pair: Box<dyn Pair>,
}

impl Bucketed {
    /// An engine in this memory. Until it is made ready, it runs batches as they come.
    pub fn new(
        file: Arc<File>,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
        memory: Box<dyn Memory>,
        place: Place,
        until: Instant,
    ) -> Result<Self, EngineError> {
        let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = place;
        let mut graphs = String::from("off: its rows are not known to be independent");
        let mut plain = open(&file, inputs, &*memory, place, until);
        if let (Err(error), true) = (&plain, place.graphs) {
            // A session for CUDA graphs takes no control flow, and no operator that the device
            // lacks.
            graphs = off(error);
            place.graphs = false;
            plain = open(&file, inputs, &*memory, place, until);
        }
        let (plain, ready) = (plain?, None);
        let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
        Ok(Self(Some(Parts { ready, plain, memory, file, inputs, outputs, place, until, graphs })))
    }

    fn parts(&mut self) -> &mut Parts {
        self.0.as_mut().expect("they are there until it is dropped")
    }
}

impl Drop for Bucketed {
    /// Frees the engine's memory while no graph is captured, because this waits for the GPU.
    fn drop(&mut self) {
        let _shared = CAPTURE.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Parts { ready, plain, memory, .. }) = self.0.take() {
            give_up((ready, plain), &*memory);
        }
    }
}

impl Engine for Bucketed {
    fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError> {
        let _shared = CAPTURE.read().unwrap_or_else(PoisonError::into_inner);
        let Parts { ready, plain, memory, .. } = self.parts();
        let came = match ready.as_mut().and_then(|ready| Some((ready.rows(inputs)?, ready))) {
            Some((rows, ready)) => ready.run(plain, &**memory, inputs, rows),
            None => plain.run(inputs),
        };
        match came {
            // Some errors of a failed device do not say so, which is why the device is checked.
            Err(EngineError::Fault(text)) if memory.check().is_err() => {
                Err(EngineError::Device(text))
            }
            came => came,
        }
    }

    fn bound(&mut self, bounds: Bounds) {
        self.parts().plain.bound(bounds);
    }

    fn prepare(&mut self, most_rows: usize) -> Result<(), EngineError> {
        let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = self.parts();
        let mut made = parts.prepare(most_rows);
        if let (Err(error), true) = (&made, parts.place.graphs) {
            let reason = off(error);
            self.0 = self.0.take().map(|parts| parts.without_graphs(reason)).transpose()?;
            made = self.parts().prepare(most_rows);
        }
        match made {
            // An engine that cannot be made ready still serves, without sizes: its network may not
            // take zeros, for example.
            Err(error) if !is_final(&error) => self.parts().graphs = off(&error),
            made => return made,
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), EngineError> {
        let _shared = CAPTURE.read().unwrap_or_else(PoisonError::into_inner);
        self.parts().memory.check()
    }

    fn sizes(&self) -> Vec<usize> {
        let ready = self.0.as_ref().and_then(|parts| parts.ready.as_ref()).into_iter();
        ready.flat_map(|ready| ready.sizes.iter().map(|size| size.rows)).collect()
    }

    fn graphs(&self) -> String {
        self.0.as_ref().map(|parts| parts.graphs.clone()).unwrap_or_default()
    }
}

impl Parts {
    /// Makes the sizes ready. Where the tensors do not allow sizes, the engine stays as it is, and
    /// `graphs` says why.
    fn prepare(&mut self, most_rows: usize) -> Result<(), EngineError> {
        let has_batch = most_rows > 0;
        let tensors = self.inputs.iter().map(|input| ("input", input));
        let mut tensors = tensors.chain(self.outputs.iter().map(|output| ("output", output)));
        let is_input = |output: &&TensorSpec| self.inputs.iter().any(|it| it.name == output.name);
        // For an output that is an input, ONNX Runtime gives the input itself, wherever the output
        // is bound to.
        let passed_on = self.outputs.iter().find(is_input);
        let passed_on = passed_on.map(|output| format!("output '{}' is an input", output.name));
        let unfit = tensors.find_map(|(side, spec)| unfit(side, spec, has_batch));
        if let Some(reason) = passed_on.or(unfit) {
            self.graphs = off(&reason);
            return Ok(());
        }
        let rows = self.sizes(most_rows);
        let ready = self.make(&rows, has_batch);
        let needed = self.bytes(rows.last().copied());
        self.ready =
            Some(ready.map_err(|error| with_room(error, &*self.memory, self.place, needed))?);
        if self.place.graphs {
            self.graphs = "on".into();
        }
        Ok(())
    }

    /// The same parts with a session that captures nothing; `graphs` is the reason. The remains of
    /// a failed capture are dropped first, and so is the stream that it may have spoilt.
    fn without_graphs(self, graphs: String) -> Result<Self, EngineError> {
        let Self { ready, plain, memory, file, inputs, outputs, place, until, .. } = self;
        let bounds = plain.bounds;
        give_up((ready, plain), &*memory);
        let spoilt = memory;
        let memory = spoilt.anew()?;
        drop(spoilt);
        let place = Place { graphs: false, ..place };
        let mut plain = open(&file, &inputs, &*memory, place, until)?;
        plain.bound(bounds);
        Ok(Self { ready: None, plain, memory, file, inputs, outputs, place, until, graphs })
    }

    /// The sizes to make ready: 1, 2, 4, ... rows and the most, up to [`MOST_BYTES`] of memory.
    fn sizes(&self, most_rows: usize) -> Vec<usize> {
        let powers = (0..MOST_SIZES).map(|power| 1usize << power);
        let powers = powers.take_while(|&rows| rows < most_rows);
        let sizes = powers.chain([most_rows.max(1)]);
        sizes.filter(|&rows| rows == 1 || self.bytes(Some(rows)) <= MOST_BYTES).collect()
    }

    /// The bytes that all inputs and outputs of `rows` take.
    fn bytes(&self, rows: Option<usize>) -> usize {
        let row = |spec: &TensorSpec| byte_size(spec.dtype, &own_shape(spec)).unwrap_or(usize::MAX);
        let all = self.inputs.iter().chain(&self.outputs).map(row);
        all.fold(0usize, usize::saturating_add).saturating_mul(rows.unwrap_or(0))
    }

    /// Binds every size, runs it, and captures it where CUDA graphs are wanted.
    fn make(&mut self, rows: &[usize], has_batch: bool) -> Result<Ready, EngineError> {
        let most = rows.last().copied().unwrap_or(1);
        let inputs = buffers(&self.inputs, &*self.memory, has_batch, most)?;
        let outputs = buffers(&self.outputs, &*self.memory, has_batch, most)?;
        let info = self.memory.info().map_err(|error| fault(&error))?;
        let mut sizes = Vec::new();
        for &rows in rows {
            let shapes = |buffers: &[Buffer]| -> Vec<Vec<usize>> {
                let batch = has_batch.then_some(rows);
                let shape =
                    |buffer: &Buffer| batch.into_iter().chain(buffer.shape.clone()).collect();
                buffers.iter().map(shape).collect()
            };
            let (of_inputs, of_outputs) = (shapes(&inputs), shapes(&outputs));
            let inputs = places(&inputs, &of_inputs, rows);
            let outputs = places(&outputs, &of_outputs, rows);
            let binding = Binding::new(&self.plain.session, &info, &inputs, &outputs)?;
            sizes.push(Size { rows, binding, options: Options::eager(false)? });
        }
        let mut ready = Ready { sizes, inputs, outputs, has_batch, used: 0 };
        self.run_all(&mut ready)?;
        if self.place.graphs {
            self.capture(&mut ready)?;
        }
        Ok(ready)
    }

    /// Runs every size, the largest first, for the memory that it allocates serves the others. Each
    /// size is run twice, because some operators set themselves up in their first run.
    fn run_all(&mut self, ready: &mut Ready) -> Result<(), EngineError> {
        let _shared = CAPTURE.read().unwrap_or_else(PoisonError::into_inner);
        for size in ready.sizes.iter().rev() {
            for _ in 0..2 {
                size.binding.run(&mut self.plain.session, &size.options, &self.plain.bounds)?;
                self.memory.wait()?;
            }
        }
        Ok(())
    }

    /// Captures every size as a CUDA graph, which the first run with a graph's number does.
    fn capture(&mut self, ready: &mut Ready) -> Result<(), EngineError> {
        for (number, size) in ready.sizes.iter_mut().enumerate().rev() {
            // The numbers of graphs begin with 1, for 0 is the library's own.
            size.options = Options::of_graph(number + 1)?;
            let _alone = CAPTURE.write().unwrap_or_else(PoisonError::into_inner);
            let captured =
                size.binding.run(&mut self.plain.session, &size.options, &self.plain.bounds);
            if let Err(error) = captured.and_then(|()| self.memory.wait()) {
                // ONNX Runtime leaves a capture open that fails outside the operators. No memory
                // can be freed while it is open.
                self.memory.end_capture();
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Ready {
    /// The rows of a batch; none where it fits into no size.
    fn rows(&self, inputs: &[Option<TensorView<'_>>]) -> Option<usize> {
        let rows = match (self.has_batch, inputs.first()) {
            (true, Some(Some(first))) => *first.shape.first()?,
            _ => 1,
        };
        let fits = |(buffer, view): (&Buffer, &Option<TensorView<'_>>)| {
            view.is_some_and(|view| view.data.len() == rows * buffer.row_bytes)
        };
        let all_fit = inputs.len() == self.inputs.len() && self.inputs.iter().zip(inputs).all(fits);
        (rows > 0 && rows <= self.sizes.last()?.rows && all_fit).then_some(rows)
    }

    /// Runs a batch of `rows` that fits into a size.
    fn run(
        &mut self,
        plain: &mut Plain,
        memory: &dyn Memory,
        inputs: &[Option<TensorView<'_>>],
        rows: usize,
    ) -> Result<Vec<Tensor>, EngineError> {
        let at = self.sizes.partition_point(|size| size.rows < rows);
        let size = &self.sizes[at];
        // `stale` is the end of the rows of earlier batches that this batch would see. `used` is
        // set so that, whatever fails on the way, no row counts as zero that is not.
        let stale = self.used.min(size.rows).max(rows);
        let beyond = if self.used > size.rows { self.used } else { rows };
        self.used = self.used.max(rows);
        for (buffer, view) in self.inputs.iter_mut().zip(inputs) {
            let data = view.map_or(&[][..], |view| view.data);
            let bytes = stale * buffer.row_bytes;
            let host = &mut buffer.pair.host()[..bytes];
            host[..data.len()].copy_from_slice(data);
            host[data.len()..].fill(0);
            buffer.pair.upload(bytes)?;
        }
        self.used = beyond;
        size.binding.run(&mut plain.session, &size.options, &plain.bounds)?;
        for buffer in &mut self.outputs {
            buffer.pair.download(rows * buffer.row_bytes)?;
        }
        memory.wait()?;
        let has_batch = self.has_batch;
        let answer = |buffer: &mut Buffer| Tensor {
            dtype: buffer.dtype,
            shape: has_batch.then_some(rows).into_iter().chain(buffer.shape.clone()).collect(),
            data: Bytes::copy_from_slice(&buffer.pair.host()[..rows * buffer.row_bytes]),
        };
        Ok(self.outputs.iter_mut().map(answer).collect())
    }
}

/// Drops the sizes and the session on a device. On a lost device nothing can be freed, and ONNX
/// Runtime ends the process over a graph that it cannot free: there they are leaked.
fn give_up(held: (Option<Ready>, Plain), memory: &dyn Memory) {
    if memory.check().is_err() {
        mem::forget(held);
    }
}

/// An engine with a session in this memory, for batches that are run as they come.
fn open(
    file: &File,
    inputs: &[TensorSpec],
    memory: &dyn Memory,
    place: Place,
    until: Instant,
) -> Result<Plain, EngineError> {
    let place = Place { stream: memory.stream(), ..place };
    let session = file.session(place, until).map_err(|error| with_room(error, memory, place, 0))?;
    warn_of_others(&session, file);
    Ok(Plain::new(session, inputs, Options::eager(true)?))
}

/// The reason why a tensor cannot lie in fixed memory; none where it can.
fn unfit(side: &str, spec: &TensorSpec, has_batch: bool) -> Option<String> {
    let TensorSpec { name, dtype, dims, optional, any_rank, .. } = spec;
    let (first, own) = dims.split_at(usize::from(has_batch).min(dims.len()));
    if *optional {
        Some(format!("{side} '{name}' may be left out"))
    } else if *any_rank {
        Some(format!("{side} '{name}' has no shape in the graph"))
    } else if *dtype == DType::Bytes {
        Some(format!("{side} '{name}' holds strings"))
    } else if has_batch && first != [-1] {
        Some(format!("{side} '{name}' {dims:?} has no batch axis"))
    } else if own.contains(&-1) {
        Some(format!("{side} '{name}' {dims:?} has sizes that the graph leaves open"))
    } else {
        None
    }
}

/// The sizes that are not open. For a tensor that fits, these are the sizes of a row, or all sizes
/// where there is no batch axis.
fn own_shape(spec: &TensorSpec) -> Vec<usize> {
    spec.dims.iter().filter_map(|&size| usize::try_from(size).ok()).collect()
}

fn buffers(
    specs: &[TensorSpec],
    memory: &dyn Memory,
    has_batch: bool,
    rows: usize,
) -> Result<Vec<Buffer>, EngineError> {
    let buffer = |spec: &TensorSpec| {
        let shape = own_shape(spec);
        debug_assert_eq!(shape.len() + usize::from(has_batch), spec.dims.len());
        let row_bytes = byte_size(spec.dtype, &shape);
        let sizes = row_bytes.and_then(|row| Some((row, row.checked_mul(rows)?)));
        let (row_bytes, bytes) = sizes.ok_or_else(|| fault(&"a row does not fit in memory"))?;
        let (name, dtype) = (spec.name.clone(), spec.dtype);
        Ok(Buffer { name, dtype, shape, row_bytes, pair: memory.pair(bytes)? })
    };
    specs.iter().map(buffer).collect()
}

/// The places of the first `rows` of every buffer.
fn places<'a>(
    buffers: &'a [Buffer],
    shapes: &'a [Vec<usize>],
    rows: usize,
) -> Vec<binding::Place<'a>> {
    let place = |(buffer, shape): (&'a Buffer, &'a Vec<usize>)| binding::Place {
        name: &buffer.name,
        dtype: buffer.dtype,
        shape,
        address: buffer.pair.address(),
        bytes: rows * buffer.row_bytes,
    };
    buffers.iter().zip(shapes).map(place).collect()
}

/// Warns of operators that another provider runs, each of which costs two copies and a wait.
fn warn_of_others(session: &ort::session::Session, file: &File) {
    let others = binding::assignment(session).unwrap_or_default().into_iter();
    let others = others.filter(|(provider, _)| provider != "CUDAExecutionProvider");
    let mut operators: Vec<_> = others.map(|(_, operator)| operator).collect();
    if !operators.is_empty() {
        operators.sort_unstable();
        operators.dedup();
        let operators = operators.join(", ");
        tracing::warn!(file = %file.path.display(), operators, "some operators are not run by the GPU");
    }
}

fn off(reason: &dyn Display) -> String {
    format!("off: {reason}")
}

fn fault(reason: &dyn Display) -> EngineError {
    EngineError::Fault(reason.to_string())
}

/// Whether an engine is of no use after this error: the device has failed or has no room for it, or
/// a run had to be ended.
fn is_final(error: &EngineError) -> bool {
    matches!(error, EngineError::Device(_) | EngineError::Ended) || is_of_memory(error)
}

fn is_of_memory(error: &EngineError) -> bool {
    let text = error.to_string();
    ["out of memory", "Failed to allocate memory", "Available memory of"]
        .iter()
        .any(|words| text.contains(words))
}

/// The error, which for want of memory also says how much there is, and how much is known to be
/// needed.
fn with_room(error: EngineError, memory: &dyn Memory, place: Place, needed: usize) -> EngineError {
    let Some((free, all)) = memory.room().filter(|_| is_of_memory(&error)) else { return error };
    let mib = |bytes: usize| bytes >> 20;
    let buffers = match needed {
        0 => String::new(),
        _ => format!(", {} MiB for its largest batch", mib(needed)),
    };
    let limit = match place.gpu.memory_limit {
        0 => String::new(),
        limit => format!(", --gpu-memory-limit is {limit} bytes"),
    };
    EngineError::Fault(format!(
        "{error}: it does not fit: {} of {} MiB are free{limit}{buffers}",
        mib(free),
        mib(all)
    ))
}
