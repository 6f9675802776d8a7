//! Tests of batches of fixed sizes on ONNX Runtime's CPU provider: in the host's memory, and in the
//! memory of a library that stands in for CUDA's. The code is the same that runs on a GPU.

use std::fs;
use std::path::Path;
use std::process::{self, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ort::memory::MemoryInfo;

use super::buckets::Bucketed;
use super::cuda;
use super::errors::run_error;
use super::file::OnnxFile;
use super::graph::{FP32, Graph, INT64, Node, STRING, Value, Weights};
use super::memory::{Memory, Pair};
use super::runtime::{load_runtime, providers};
use super::said::brief;
use super::session::Place;
use super::trial::try_device;
use crate::engine::Bounds;
use crate::engine::{Engine, EngineError, Source, watchdog};
use crate::model::TensorSpec;
use crate::model::device::{Device, GpuOptions};
use crate::tensor::TensorView;
use crate::tensor::strings;
use crate::tensor::{DType, Tensor, aligned};

/// Loads ONNX Runtime's library from the environment that `make build` makes.
fn load() {
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/lib");
    let folders = fs::read_dir(&environment).into_iter().flatten().flatten();
    let files = folders
        .filter_map(|python| {
            fs::read_dir(python.path().join("site-packages/onnxruntime/capi")).ok()
        })
        .flatten()
        .flatten();
    let library = files
        .map(|file| file.path())
        .find(|file| file.to_string_lossy().contains("libonnxruntime.so."))
        .unwrap_or_else(|| panic!("no ONNX Runtime below {environment:?}: run `make build`"));
    load_runtime(&library).expect("it loads");
}

/// The host's memory in both roles: the host's own, and a device's.
#[derive(Debug)]
struct Host;

#[derive(Debug)]
struct HostPair {
    host: Vec<u64>,
    device: Vec<u64>,
    bytes: usize,
}

impl Memory for Host {
    fn pair(&self, bytes: usize) -> Result<Box<dyn Pair>, EngineError> {
        let words = vec![0; bytes.div_ceil(8)];
        Ok(Box::new(HostPair { host: words.clone(), device: words, bytes }))
    }

    fn anew(&self) -> Result<Box<dyn Memory>, EngineError> {
        Ok(Box::new(Self))
    }

    fn stream(&self) -> usize {
        0
    }

    fn wait(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn end_capture(&self) {}

    fn info(&self) -> ort::Result<MemoryInfo<'static>> {
        Ok(MemoryInfo::default())
    }

    fn room(&self) -> Option<(usize, usize)> {
        None
    }

    fn check(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

impl Pair for HostPair {
    fn host(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.host)[..self.bytes]
    }

    fn address(&self) -> usize {
        self.device.as_ptr().expose_provenance()
    }

    fn upload(&mut self, bytes: usize) -> Result<(), EngineError> {
        let host: &[u8] = bytemuck::cast_slice(&self.host);
        bytemuck::cast_slice_mut(&mut self.device)[..bytes].copy_from_slice(&host[..bytes]);
        Ok(())
    }

    fn download(&mut self, bytes: usize) -> Result<(), EngineError> {
        let device: &[u8] = bytemuck::cast_slice(&self.device);
        bytemuck::cast_slice_mut(&mut self.host)[..bytes].copy_from_slice(&device[..bytes]);
        Ok(())
    }
}

fn open(graph: Graph) -> OnnxFile {
    load();
    OnnxFile::of_content("small", graph.file(), later()).expect("it opens")
}

/// A time limit that no load reaches.
fn later() -> Instant {
    watchdog::from_now(Duration::MAX)
}

fn plain(file: &OnnxFile) -> Box<dyn Engine> {
    file.engine(Device::Cpu, GpuOptions::default(), later()).expect("an engine")
}

/// An engine in the host's memory; its runs have the numbers of graphs, which the CPU ignores.
fn bucketed(file: &OnnxFile) -> Bucketed {
    let place = Place { graphs: true, ..Place::default() };
    file.bucketed(Box::new(Host), place, later()).expect("an engine")
}

/// Numbers in [-1, 1), the same ones for the same seed.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    let number = |at: usize| ((seed * 7919 + at * 104_729) % 2000) as f32 / 1000.0 - 1.0;
    (0..count).map(number).collect()
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    let data = aligned(bytemuck::cast_slice(values));
    Tensor { dtype: DType::Fp32, shape: shape.to_vec(), data }
}

fn run(engine: &mut dyn Engine, inputs: &[Tensor]) -> Vec<Tensor> {
    let views: Vec<Option<TensorView<'_>>> =
        inputs.iter().map(|input| Some(input.view())).collect();
    engine.run(&views).expect("an answer")
}

fn perceptron() -> Graph {
    Graph {
        nodes: vec![
            Node::new("MatMul", &["x", "w"], "a"),
            Node::new("Relu", &["a"], "b"),
            Node::new("MatMul", &["b", "v"], "c"),
            Node::new("Softmax", &["c"], "y"),
            Node::new("ArgMax", &["b"], "most"),
        ],
        initializers: vec![
            Weights::new("w", &[10, 18], numbers(1, 180)),
            Weights::new("v", &[18, 5], numbers(2, 90)),
        ],
        inputs: vec![Value::new("x", FP32, &[-1, 10])],
        outputs: vec![Value::new("y", FP32, &[-1, 5]), Value::new("b", FP32, &[-1, 18])],
        ..Default::default()
    }
}

fn convolution() -> Graph {
    Graph {
        nodes: vec![
            Node::new("Conv", &["x", "w"], "a"),
            Node::new("Relu", &["a"], "b"),
            Node::new("GlobalAveragePool", &["b"], "c"),
            Node::new("Flatten", &["c"], "y"),
        ],
        initializers: vec![Weights::new("w", &[4, 3, 3, 3], numbers(3, 108))],
        inputs: vec![Value::new("x", FP32, &[-1, 3, 8, 8])],
        outputs: vec![Value::new("y", FP32, &[-1, 4])],
        ..Default::default()
    }
}

/// A graph that adds the sum of all rows to each row, so that rows behind the batch show.
fn sum_of_rows() -> Graph {
    Graph {
        nodes: vec![
            Node::new("ReduceSum", &["x", "axes"], "sum"),
            Node::new("Add", &["x", "sum"], "y"),
        ],
        initializers: vec![Weights::integers("axes", &[0])],
        inputs: vec![Value::new("x", FP32, &[-1, 2])],
        outputs: vec![Value::new("y", FP32, &[-1, 2])],
        ..Default::default()
    }
}

/// A graph whose inputs are whole numbers, which choose rows of weights, and floats.
fn embedding() -> Graph {
    Graph {
        nodes: vec![
            Node::new("Gather", &["w", "i"], "a"),
            Node::new("Flatten", &["a"], "b"),
            Node::new("Add", &["b", "x"], "y"),
        ],
        initializers: vec![Weights::new("w", &[7, 3], numbers(4, 21))],
        inputs: vec![Value::new("i", INT64, &[-1, 2]), Value::new("x", FP32, &[-1, 6])],
        outputs: vec![Value::new("y", FP32, &[-1, 6])],
        ..Default::default()
    }
}

/// A batch of `rows` for every input of a network: floats in [-1, 1), or whole numbers of 0 and 1.
fn batch(file: &OnnxFile, rows: usize) -> Vec<Tensor> {
    let batch = |input: &TensorSpec| {
        // An open size other than the batch's may be any size; 16 is taken.
        let own = input.dims[1..].iter().map(|&size| usize::try_from(size).unwrap_or(16));
        let shape: Vec<_> = [rows].into_iter().chain(own).collect();
        let count = shape.iter().product();
        if input.dtype == DType::Fp32 {
            return floats(&shape, &numbers(rows, count));
        }
        let integers = (0..count).map(|at| ((at * 5 + rows) % 7 % 2).to_le_bytes());
        let data: Vec<u8> =
            integers.flat_map(|bytes| bytes.into_iter().take(input.dtype.size())).collect();
        Tensor { dtype: input.dtype, shape, data: aligned(&data) }
    };
    file.inputs().iter().map(batch).collect()
}

/// The sizes that a network is made ready for. Batches of every number of rows, rising and falling,
/// are held against the answers of a plain engine first.
fn sizes_in_which_it_answers_as_a_plain_engine(file: &OnnxFile) -> Vec<usize> {
    let (mut plain, mut engine) = (plain(file), bucketed(file));
    engine.prepare(11).expect("it fits");
    for rows in (1..=12).chain((1..=12).rev()) {
        let inputs = batch(file, rows);
        let expected = run(&mut *plain, &inputs);
        assert_eq!(run(&mut engine, &inputs), expected, "{rows} rows, bit for bit");
    }
    assert_eq!(engine.graphs() == "on", !engine.sizes().is_empty(), "{}", engine.graphs());
    engine.sizes()
}

#[test]
#[allow(clippy::print_stdout, reason = "that is how it tells tests/test_fixed_sizes.py")]
fn a_network_answers_bit_for_bit_in_every_size() {
    for graph in [perceptron(), convolution(), embedding()] {
        let sizes = sizes_in_which_it_answers_as_a_plain_engine(&open(graph));
        assert_eq!(sizes, [1, 2, 4, 8, 11]);
    }
    // tests/test_fixed_sizes.py names real networks.
    for path in std::env::var("SIGMAX_NETWORKS").iter().flat_map(|paths| paths.split(':')) {
        let file = OnnxFile::open(Path::new(path), u64::MAX, later()).expect("it opens");
        let sizes = sizes_in_which_it_answers_as_a_plain_engine(&file);
        println!("{path}: {sizes:?}");
    }
}

#[test]
fn nothing_of_earlier_batches_is_behind_a_batch() {
    // Sums of rows of zeros are exact, so the answers are, too.
    let file = open(sum_of_rows());
    let (mut plain, mut engine) = (plain(&file), bucketed(&file));
    engine.prepare(16).expect("it fits");
    for rows in [16, 5, 3, 16, 1, 9, 8, 2, 7, 13, 3] {
        let inputs = [floats(&[rows, 2], &numbers(rows, rows * 2))];
        assert_eq!(run(&mut engine, &inputs), run(&mut *plain, &inputs), "{rows} rows");
    }
}

#[test]
fn what_has_no_batch_axis_is_one_size() {
    let graph = Graph {
        inputs: vec![Value::new("x", FP32, &[3, 10])],
        outputs: vec![Value::new("y", FP32, &[3, 5])],
        ..perceptron()
    };
    let file = open(graph);
    let mut engine = bucketed(&file);
    engine.prepare(0).expect("it fits");
    assert_eq!((engine.sizes(), &*engine.graphs()), (vec![1], "on"));
    let inputs = [floats(&[3, 10], &numbers(5, 30))];
    assert_eq!(run(&mut engine, &inputs), run(&mut *plain(&file), &inputs));
}

#[test]
fn what_does_not_fit_into_sizes_is_run_as_it_comes_and_says_why() {
    let open_sizes = Graph {
        inputs: vec![Value::new("x", FP32, &[-1, -1])],
        outputs: vec![Value::new("y", FP32, &[-1, -1])],
        ..sum_of_rows()
    };
    let strings = Graph {
        nodes: vec![Node::new("Identity", &["x"], "y")],
        inputs: vec![Value::new("x", STRING, &[-1, 1])],
        outputs: vec![Value::new("y", STRING, &[-1, 1])],
        ..Default::default()
    };
    let mut optional = perceptron();
    optional.inputs.push(Value::new("v", FP32, &[18, 5]));
    let text = Tensor {
        dtype: DType::Bytes,
        shape: vec![2, 1],
        data: strings::tensor_of(&["one", "two"]).into(),
    };
    let weights = floats(&[18, 5], &numbers(9, 90));
    let cases = [
        (open_sizes, vec![floats(&[2, 3], &numbers(1, 6))], "[-1, -1] has sizes that the graph"),
        (strings, vec![text], "input 'x' holds strings"),
        (optional, vec![floats(&[2, 10], &numbers(1, 20)), weights], "'v' may be left out"),
    ];
    for (graph, inputs, reason) in cases {
        let file = open(graph);
        let mut engine = bucketed(&file);
        engine.prepare(8).expect("it serves all the same");
        assert!(engine.sizes().is_empty());
        assert!(engine.graphs().starts_with("off: "), "{}", engine.graphs());
        assert!(engine.graphs().contains(reason), "{}", engine.graphs());
        assert_eq!(run(&mut engine, &inputs), run(&mut *plain(&file), &inputs));
    }
}

#[test]
fn a_graph_whose_outputs_are_not_as_it_says_is_run_as_it_comes() {
    let graph = Graph { outputs: vec![Value::new("sum", FP32, &[-1, 2])], ..sum_of_rows() };
    let file = open(graph);
    let mut engine = bucketed(&file);
    engine.prepare(4).expect("it serves all the same");
    assert!(engine.sizes().is_empty() && engine.graphs().starts_with("off: "), "{engine:?}");
    let inputs = [floats(&[3, 2], &numbers(1, 6))];
    assert_eq!(run(&mut engine, &inputs), run(&mut *plain(&file), &inputs));
}

#[test]
fn a_device_is_tried() {
    load();
    try_device(Device::Cpu).expect("there is one");
    assert!(providers().expect("a list").contains(&"CPUExecutionProvider".into()));
    let error = try_device(Device::Cuda(0)).expect_err("the library has no such provider");
    assert!(
        error.to_string().contains("cuda:0: CUDA execution provider is not enabled"),
        "{error}"
    );
}

#[test]
fn what_cuda_says_of_a_device_is_told_from_what_a_kernel_says_of_values() {
    load();
    let error = |text: &str| run_error(&ort::Error::new(text));
    let tail = "; GPU=0 ; hostname=here ; file=there ; line=1 ; expr=f();";
    let lost = error(&format!("CUDA failure 700: an illegal memory access was encountered {tail}"));
    assert!(matches!(lost, EngineError::Device(_)), "{lost:?}");
    let other = error("CUDA error cudaErrorLaunchFailure:unspecified launch failure");
    assert!(matches!(other, EngineError::Device(_)), "{other:?}");
    let full = error(&format!("CUDA failure 2: out of memory {tail}"));
    assert!(matches!(full, EngineError::Fault(_)), "{full:?}");
    assert!(matches!(error("Integer division by zero"), EngineError::Refused(_)));
}

#[test]
fn what_onnx_runtime_says_is_told_without_its_sources() {
    let place = "; GPU=0 ; hostname=here ; file=/onnxruntime_src/there.cc ; line=1 ; expr=f(&x);";
    let call =
        "/onnxruntime_src/call.cc:154 void Call() [with T = int] /onnxruntime_src/call.cc:146";
    for (message, told) in [
        (
            format!(
                "Exception during initialization: {call} CUDNN failure 1001: NO_DEVICE {place} "
            ),
            "Exception during initialization: CUDNN failure 1001: NO_DEVICE, from f(&x)",
        ),
        (
            format!("while running Gemm: CUDA failure 719: unspecified launch failure {place}"),
            "while running Gemm: CUDA failure 719: unspecified launch failure, from f(&x)",
        ),
        ("a failure of another kind\n".into(), "a failure of another kind"),
    ] {
        assert_eq!(brief(&message), told);
    }
}

/// A library with CUDA's functions over the host's memory, and some of its own.
struct FakeCuda {
    runtime: Arc<cuda::Runtime>,
    fake: libloading::os::unix::Library,
}

impl FakeCuda {
    #[allow(unsafe_code)]
    fn build(name: &str) -> Self {
        let base = format!("sigmax-{}-{name}", process::id());
        let library = std::env::temp_dir().join(base).with_extension("so");
        let source = library.with_extension("c");
        fs::write(&source, include_str!("../../../tests/fake_cudart.c")).expect("written");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        assert!(compiler.status().expect("a C compiler").success());
        // SAFETY: it is the library just made, which does nothing when it is loaded.
        let fake = unsafe { libloading::os::unix::Library::new(&library) }.expect("it opens");
        let runtime = cuda::Runtime::open_as(&library, 0).expect("it opens");
        [source, library].iter().for_each(|file| fs::remove_file(file).expect("it was there"));
        Self { runtime, fake }
    }

    fn call(&self, name: &str, argument: i32) -> i32 {
        #[allow(unsafe_code)]
        // SAFETY: every function of its own takes an int and gives one.
        unsafe {
            let function = self.fake.get::<unsafe extern "C" fn(i32) -> i32>(name).expect(name);
            function(argument)
        }
    }

    fn memory(&self) -> InHost {
        InHost(Box::new(self.runtime.clone().memory(3).expect("a device")))
    }
}

/// The fake library's memory. Its device's part is the host's memory, and ONNX Runtime is told so.
#[derive(Debug)]
struct InHost(Box<dyn Memory>);

impl Memory for InHost {
    fn pair(&self, bytes: usize) -> Result<Box<dyn Pair>, EngineError> {
        self.0.pair(bytes)
    }

    fn anew(&self) -> Result<Box<dyn Memory>, EngineError> {
        Ok(Box::new(Self(self.0.anew()?)))
    }

    fn stream(&self) -> usize {
        self.0.stream()
    }

    fn wait(&self) -> Result<(), EngineError> {
        self.0.wait()
    }

    fn end_capture(&self) {
        self.0.end_capture();
    }

    fn info(&self) -> ort::Result<MemoryInfo<'static>> {
        Ok(MemoryInfo::default())
    }

    fn room(&self) -> Option<(usize, usize)> {
        self.0.room()
    }

    fn check(&self) -> Result<(), EngineError> {
        self.0.check()
    }
}

#[test]
fn an_engine_runs_in_cudas_memory_and_gives_it_back() {
    let cuda = FakeCuda::build("gives_back");
    let file = open(perceptron());
    let mut engine =
        file.bucketed(Box::new(cuda.memory()), Place::default(), later()).expect("an engine");
    engine.prepare(8).expect("it fits");
    assert_eq!(cuda.call("fake_device", 0), 3);
    let mut plain = plain(&file);
    for rows in [8, 3, 1, 6] {
        let inputs = [floats(&[rows, 10], &numbers(rows, rows * 10))];
        assert_eq!(run(&mut engine, &inputs), run(&mut *plain, &inputs), "{rows} rows");
    }
    let busy = cuda.call("fake_slow", 1);
    let inputs = [floats(&[2, 10], &numbers(2, 20))];
    assert_eq!(run(&mut engine, &inputs), run(&mut *plain, &inputs));
    assert_eq!(cuda.call("fake_slow", 0), busy + 1, "it slept while the GPU was busy");
    // The engine holds a pair for the input and one for each output, a stream and an event.
    assert_eq!(cuda.call("fake_alive", 0), 3 * 2 + 2);
    drop(engine);
    assert_eq!(cuda.call("fake_alive", 0), 0);
}

#[test]
fn a_cuda_error_is_the_devices_and_its_text_is_told() {
    let cuda = FakeCuda::build("device_error");
    let file = open(perceptron());
    let mut engine =
        file.bucketed(Box::new(cuda.memory()), Place::default(), later()).expect("an engine");
    engine.prepare(8).expect("it fits");
    cuda.call("fake_fail", 700);
    let input = floats(&[1, 10], &numbers(1, 10));
    let error = engine.run(&[Some(input.view())]).expect_err("it fails");
    let text = "cuda:3: cudaMemcpyAsync: CUDA error 700: the fake's error".to_owned();
    assert_eq!(error, EngineError::Device(text));
}

#[test]
fn what_a_lost_gpu_holds_is_left_there() {
    let cuda = FakeCuda::build("lost");
    let file = open(perceptron());
    let mut engine =
        file.bucketed(Box::new(cuda.memory()), Place::default(), later()).expect("an engine");
    engine.prepare(8).expect("it fits");
    cuda.call("fake_lose", 700);
    let input = floats(&[1, 10], &numbers(1, 10));
    let error = engine.run(&[Some(input.view())]).expect_err("it fails");
    assert!(matches!(error, EngineError::Device(_)), "{error:?}");
    let held = cuda.call("fake_alive", 0);
    drop(engine);
    assert_eq!(cuda.call("fake_alive", 0), held);
}

#[test]
fn what_cannot_be_captured_is_run_without_graphs_on_another_stream() {
    let cuda = FakeCuda::build("no_capture");
    let file = open(perceptron());
    let place = Place { graphs: true, ..Place::default() };
    let mut engine = file.bucketed(Box::new(cuda.memory()), place, later()).expect("an engine");
    cuda.call("fake_fail", 900);
    engine.prepare(8).expect("it fits");
    assert_eq!(engine.graphs(), "off: cuda:3: cudaMalloc: CUDA error 900: the fake's error");
    assert_eq!(engine.sizes(), [1, 2, 4, 8]);
    let inputs = [floats(&[3, 10], &numbers(3, 30))];
    assert_eq!(run(&mut engine, &inputs), run(&mut *plain(&file), &inputs));
    assert_eq!(cuda.call("fake_alive", 0), 3 * 2 + 2, "nothing is left of the first try");
}

#[test]
fn a_model_without_room_is_refused_with_figures() {
    let cuda = FakeCuda::build("no_room");
    let file = open(perceptron());
    let mut engine =
        file.bucketed(Box::new(cuda.memory()), Place::default(), later()).expect("an engine");
    cuda.call("fake_fail", 2);
    let error = engine.prepare(1 << 20).expect_err("no room");
    let text = error.to_string();
    assert!(matches!(error, EngineError::Fault(_)), "{text}");
    assert!(text.contains("cuda:3: cudaMalloc: CUDA error 2"), "{text}");
    assert!(
        text.ends_with("it does not fit: 5 of 7 MiB are free, 132 MiB for its largest batch"),
        "{text}"
    );
    drop(engine);
    assert_eq!(cuda.call("fake_alive", 0), 0);
}

/// A graph that gives as many ones as its input, one INT64, says.
fn expands() -> Graph {
    Graph {
        nodes: vec![Node::new("Expand", &["one", "n"], "y")],
        initializers: vec![Weights::new("one", &[1], vec![1.0])],
        inputs: vec![Value::new("n", INT64, &[1])],
        outputs: vec![Value::new("y", FP32, &[-1])],
        ..Default::default()
    }
}

fn ask(engine: &mut dyn Engine, count: i64) -> Result<usize, EngineError> {
    let data = aligned(bytemuck::bytes_of(&count));
    let input = Tensor { dtype: DType::Int64, shape: vec![1], data };
    engine.run(&[Some(input.view())]).map(|outputs| outputs[0].shape[0])
}

#[test]
fn a_run_that_takes_too_much_memory_fails_alone() {
    let mut engine = plain(&open(expands()));
    engine.bound(Bounds { memory: 1 << 20, ..Bounds::default() });
    for _ in 0..3 {
        let error = ask(&mut *engine, 1 << 40).expect_err("4 TiB");
        assert!(
            matches!(error, EngineError::Memory { needed, limit: 0x10_0000 } if needed >= 4 << 40),
            "{error:?}"
        );
        assert_eq!(ask(&mut *engine, 1000), Ok(1000));
    }
    engine.bound(Bounds::default());
    assert_eq!(ask(&mut *engine, 1 << 20), Ok(1 << 20), "the limit was the run's");
}

#[test]
fn outputs_are_measured_before_they_are_copied() {
    let mut engine = plain(&open(expands()));
    engine.bound(Bounds { outputs: 4000, ..Bounds::default() });
    assert_eq!(ask(&mut *engine, 1000), Ok(1000));
    let error = EngineError::TooLarge { found: 4004, limit: 4000 };
    assert_eq!(ask(&mut *engine, 1001), Err(error));
}
