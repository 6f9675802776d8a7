//! Counters and histograms. Each thread writes its own and never waits; a scrape sums them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::Code;

use crate::error::{Dialect, Error};
use crate::grpc::budget::Memory;
use crate::log;
use crate::scheduler::limits::Depth;
use crate::scheduler::request::{Answer, Timings};

/// Upper bounds of the time histograms, in nanoseconds: 10 us to 10 s.
const TIME_BOUNDS: [u64; 19] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Upper bounds of the batch size histogram, in rows.
const ROW_BOUNDS: [u64; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    /// One writer only, so that no locked instruction is needed.
    fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often values fell between bounds, and their sum.
#[derive(Debug)]
struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [Counter; N],
    over: Counter,
    sum: Counter,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [u64; N]) -> Self {
        let counts = std::array::from_fn(|_| Counter::default());
        Self { bounds, counts, over: Counter::default(), sum: Counter::default() }
    }

    fn record(&self, value: u64) {
        let slot = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(slot).unwrap_or(&self.over).add(1);
        self.sum.add(value);
    }
}

/// How often, and for how long in all.
#[derive(Debug, Default)]
struct Clock {
    count: Counter,
    nanoseconds: Counter,
}

impl Clock {
    fn record(&self, nanoseconds: u64) {
        self.count.add(1);
        self.nanoseconds.add(nanoseconds);
    }
}

/// How often, and for how long in all; a [`Clock`] as it stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elapsed {
    /// How often.
    pub count: u64,
    /// In all.
    pub nanoseconds: u64,
}

impl Elapsed {
    fn add(&mut self, clock: &Clock) {
        self.count += clock.count.get();
        self.nanoseconds += clock.nanoseconds.get();
    }

    fn record(&mut self, time: Duration) {
        self.count += 1;
        self.nanoseconds += nanoseconds(time);
    }
}

/// Runs of one size, by their parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStatistics {
    /// Gathering the rows.
    pub input: Elapsed,
    /// Running the network.
    pub infer: Elapsed,
    /// Splitting the outputs.
    pub output: Elapsed,
}

/// What one version of a model has done, over all threads. The parts are counted once a request
/// that was answered, each with the time of its whole batch.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// When a batch last ended, in milliseconds since 1970; 0: never.
    pub last_inference: u64,
    /// Rows answered.
    pub rows: u64,
    /// Runs of the network.
    pub executions: u64,
    /// Requests answered, from their first byte.
    pub success: Elapsed,
    /// Requests refused or failed.
    pub fail: Elapsed,
    /// Waiting for the batch.
    pub queue: Elapsed,
    /// Gathering the rows.
    pub input: Elapsed,
    /// Running the network.
    pub infer: Elapsed,
    /// Splitting the outputs.
    pub output: Elapsed,
    /// By the rows of the batch.
    pub batches: BTreeMap<usize, BatchStatistics>,
}

/// Why a request is not run though it is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its model's queue has no room.
    QueueFull,
    /// It could not be answered in time.
    TooLate,
    /// Its deadline has passed.
    DeadlineExceeded,
    /// It has waited for too long.
    QueueTimeout,
    /// There is no room for its message.
    NoMemory,
    /// Its client has given it up.
    Cancelled,
}

impl Refusal {
    const ALL: [(Self, &'static str); 6] = [
        (Self::QueueFull, "queue_full"),
        (Self::TooLate, "too_late"),
        (Self::DeadlineExceeded, "deadline_exceeded"),
        (Self::QueueTimeout, "queue_timeout"),
        (Self::NoMemory, "no_memory"),
        (Self::Cancelled, "cancelled"),
    ];

    /// Of an error, if it is one.
    pub fn of(error: &Error) -> Option<Self> {
        Some(match error.itself() {
            Error::QueueFull { .. } => Self::QueueFull,
            Error::TooLate { .. } => Self::TooLate,
            Error::DeadlineExceeded => Self::DeadlineExceeded,
            Error::QueueTimeout => Self::QueueTimeout,
            Error::NoMemory { .. } => Self::NoMemory,
            _ => return None,
        })
    }
}

/// How a request has ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The status code.
    pub code: Code,
    /// Why it was not run.
    pub refusal: Option<Refusal>,
}

impl Outcome {
    /// It is answered.
    pub const OK: Self = Self { code: Code::Ok, refusal: None };

    /// It is not.
    pub fn of(error: &Error, dialect: Dialect) -> Self {
        Self { code: error.code(dialect), refusal: Refusal::of(error) }
    }
}

/// What one thread has counted of one version of a model.
#[derive(Debug)]
pub struct ModelMetrics {
    requests: [Counter; 17],
    refusals: [Counter; Refusal::ALL.len()],
    latency: Histogram<19>,
    queue: Histogram<19>,
    compute: Histogram<19>,
    batch_rows: Histogram<13>,
    rows: Counter,
    success: Clock,
    fail: Clock,
    parts: [Clock; 4],
    last_inference: Counter,
    /// Written once a batch; a reader holds it for as long as it copies.
    batches: Mutex<BTreeMap<usize, BatchStatistics>>,
}

impl ModelMetrics {
    fn new() -> Self {
        Self {
            requests: std::array::from_fn(|_| Counter::default()),
            refusals: Default::default(),
            latency: Histogram::new(&TIME_BOUNDS),
            queue: Histogram::new(&TIME_BOUNDS),
            compute: Histogram::new(&TIME_BOUNDS),
            batch_rows: Histogram::new(&ROW_BOUNDS),
            rows: Counter::default(),
            success: Clock::default(),
            fail: Clock::default(),
            parts: Default::default(),
            last_inference: Counter::default(),
            batches: Mutex::default(),
        }
    }

    /// A request is not run.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize].add(1);
    }

    /// A request has ended, so long after its first byte; `ran` where the network has answered it.
    pub fn request(&self, outcome: Outcome, total: Duration, ran: Option<Ran>) {
        let Outcome { code, refusal } = outcome;
        if let Some(refusal) = refusal {
            self.refused(refusal);
        }
        self.requests[code as usize].add(1);
        self.latency.record(nanoseconds(total));
        let Some(Ran { rows, parts }) = ran.filter(|_| code == Code::Ok) else {
            return self.fail.record(nanoseconds(total));
        };
        self.queue.record(parts[0]);
        self.rows.add(rows);
        self.success.record(nanoseconds(total));
        self.parts.iter().zip(parts).for_each(|(clock, time)| clock.record(time));
    }

    /// A batch has run.
    pub fn batch(&self, timings: &Timings) {
        self.batch_rows.record(timings.batch_rows as u64);
        self.compute.record(nanoseconds(timings.compute()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_inference.set(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = batches.entry(timings.batch_rows).or_default();
        batch.input.record(timings.input);
        batch.infer.record(timings.infer);
        batch.output.record(timings.output);
    }

    fn add_to(&self, sum: &mut Statistics) {
        sum.last_inference = sum.last_inference.max(self.last_inference.get());
        sum.rows += self.rows.get();
        sum.success.add(&self.success);
        sum.fail.add(&self.fail);
        let parts = [&mut sum.queue, &mut sum.input, &mut sum.infer, &mut sum.output];
        parts.into_iter().zip(&self.parts).for_each(|(sum, part)| sum.add(part));
        for (rows, batch) in &*self.batches.lock().unwrap_or_else(PoisonError::into_inner) {
            sum.executions += batch.infer.count;
            let all = sum.batches.entry(*rows).or_default();
            for (all, one) in [
                (&mut all.input, batch.input),
                (&mut all.infer, batch.infer),
                (&mut all.output, batch.output),
            ] {
                all.count += one.count;
                all.nanoseconds += one.nanoseconds;
            }
        }
    }
}

/// That the network has answered a request.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    rows: u64,
    /// Waiting, input, infer and output, in nanoseconds: half as wide as durations, because every
    /// call carries room for them.
    parts: [u64; 4],
}

impl From<&Answer> for Ran {
    fn from(answer: &Answer) -> Self {
        let Timings { queue, input, infer, output, .. } = answer.timings;
        Self { rows: answer.rows as u64, parts: [queue, input, infer, output].map(nanoseconds) }
    }
}

/// A duration that fits a counter: 584 years.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The lanes of one model on one device.
#[derive(Debug)]
pub struct LaneMetrics {
    /// Such as `cuda:0`.
    pub device: String,
    /// Those that serve.
    pub alive: AtomicUsize,
    /// How often an engine was lost.
    pub faults: AtomicU64,
}

impl LaneMetrics {
    /// None yet.
    pub fn new(device: String) -> Arc<Self> {
        Arc::new(Self { device, alive: AtomicUsize::new(0), faults: AtomicU64::new(0) })
    }
}

/// What is shown of a version of a model beside what is counted.
#[derive(Debug)]
pub struct Shown {
    /// The rows that wait for it.
    pub depth: Arc<Depth>,
    /// What it runs on.
    pub device: String,
    /// Its lanes, by device; none where it runs in the shards' loops.
    pub lanes: Vec<Arc<LaneMetrics>>,
}

/// By model and version.
type Writers = BTreeMap<(String, u64), Vec<Arc<ModelMetrics>>>;

/// Every writer's metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    writers: Mutex<Writers>,
    shown: Mutex<BTreeMap<(String, u64), Shown>>,
    /// Connections accepted so far.
    pub connections: AtomicU64,
    /// Connections refused for being too many.
    pub connections_refused: AtomicU64,
    /// Idle connections ended to make room for others.
    pub connections_evicted: AtomicU64,
    /// Connections whose clients did not begin to speak HTTP/2 in time.
    pub handshakes_late: AtomicU64,
    /// Connections cut off because their clients kept a message waiting.
    pub connections_stalled: AtomicU64,
}

impl Metrics {
    /// Metrics for one more thread that serves this model. Version 0 stands for no version:
    /// requests that named none that exists.
    pub fn writer(&self, model: &str, version: u64) -> Arc<ModelMetrics> {
        let metrics = Arc::new(ModelMetrics::new());
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.entry((model.to_owned(), version)).or_default().push(metrics.clone());
        metrics
    }

    /// Begins anew with a version of a model, or ends with it.
    pub fn forget(&self, model: &str, version: u64) {
        let key = (model.to_owned(), version);
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// What a version of a model has done.
    pub fn statistics(&self, model: &str, version: u64) -> Statistics {
        let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Statistics::default();
        let of_model = writers.get(&(model.to_owned(), version)).into_iter().flatten();
        of_model.for_each(|writer| writer.add_to(&mut sum));
        sum
    }

    /// Has this shown of a model.
    pub fn show(&self, model: &str, version: u64, what: Shown) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.insert((model.to_owned(), version), what);
    }

    /// Everything, in Prometheus' text format 0.0.4. What is not counted here is given: whether
    /// the server is ready, the connections open and the memory of messages.
    pub fn text(&self, ready: bool, open: usize, memory: &Memory) -> String {
        let mut text = String::new();
        let mut single = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        single("sigmax_ready", "gauge", "Whether the server is ready.", u64::from(ready));
        single("sigmax_open_connections", "gauge", "Open connections.", open as u64);
        let opened = self.connections.load(Relaxed);
        single("sigmax_connections_total", "counter", "Connections accepted.", opened);
        let refused = self.connections_refused.load(Relaxed);
        let help = "Connections refused for being too many.";
        single("sigmax_connections_refused_total", "counter", help, refused);
        let help = "Lines of the log that nobody took, or that could not be written.";
        single("sigmax_log_lines_dropped_total", "counter", help, log::STDERR.dropped());
        let evicted = self.connections_evicted.load(Relaxed);
        let help = "Idle connections ended to make room for others.";
        single("sigmax_connections_evicted_total", "counter", help, evicted);
        let late = self.handshakes_late.load(Relaxed);
        let help = "Connections whose clients did not begin to speak HTTP/2 in time.";
        single("sigmax_handshakes_late_total", "counter", help, late);
        let stalled = self.connections_stalled.load(Relaxed);
        let help = "Connections cut off because their clients kept a message waiting.";
        single("sigmax_connections_stalled_total", "counter", help, stalled);
        let help = "What requests and answers under way hold.";
        single("sigmax_message_bytes", "gauge", help, memory.used() as u64);
        let help = "The most that requests and answers under way may hold.";
        single("sigmax_message_bytes_limit", "gauge", help, memory.limit() as u64);

        shown_text(&mut text, &self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        requests_text(&mut text, &writers);
        refusals_text(&mut text, &writers);
        let seconds = 1e9;
        histogram_text(
            &mut text,
            &writers,
            ("sigmax_request_seconds", "From a request's first byte to its answer, in seconds."),
            seconds,
            |metrics| &metrics.latency,
        );
        histogram_text(
            &mut text,
            &writers,
            ("sigmax_queue_seconds", "From decoded to the start of the batch, in seconds."),
            seconds,
            |metrics| &metrics.queue,
        );
        histogram_text(
            &mut text,
            &writers,
            ("sigmax_compute_seconds", "Run time of a batch, in seconds."),
            seconds,
            |metrics| &metrics.compute,
        );
        histogram_text(
            &mut text,
            &writers,
            ("sigmax_batch_rows", "Rows in a batch that was run."),
            1.0,
            |metrics| &metrics.batch_rows,
        );
        text
    }
}

fn shown_text(text: &mut String, shown: &BTreeMap<(String, u64), Shown>) {
    let head = |text: &mut String, name: &str, kind: &str, help: &str| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    };
    let name = "sigmax_model_info";
    head(text, name, "gauge", "1 for every model, with what it runs on.");
    for (key, Shown { device, .. }) in shown {
        let _ = writeln!(text, "{name}{{{},device=\"{device}\"}} 1", labels(key));
    }
    let name = "sigmax_queued_rows";
    head(text, name, "gauge", "Rows waiting for a batch.");
    for (key, Shown { depth, .. }) in shown {
        let _ = writeln!(text, "{name}{{{}}} {}", labels(key), depth.rows());
    }
    let lanes = || shown.iter().flat_map(|(key, shown)| shown.lanes.iter().map(move |l| (key, l)));
    let name = "sigmax_lanes";
    head(text, name, "gauge", "Threads with an engine of their own that serve a model.");
    for (key, LaneMetrics { device, alive, .. }) in lanes().map(|(key, lanes)| (key, &**lanes)) {
        let alive = alive.load(Relaxed);
        let _ = writeln!(text, "{name}{{{},device=\"{device}\"}} {alive}", labels(key));
    }
    let name = "sigmax_lane_faults_total";
    head(text, name, "counter", "Engines lost by a failure of their device or by a panic.");
    for (key, LaneMetrics { device, faults, .. }) in lanes().map(|(key, lanes)| (key, &**lanes)) {
        let faults = faults.load(Relaxed);
        let _ = writeln!(text, "{name}{{{},device=\"{device}\"}} {faults}", labels(key));
    }
}

fn requests_text(text: &mut String, writers: &Writers) {
    let name = "sigmax_requests_total";
    let _ = writeln!(text, "# HELP {name} Requests answered, by model and status code.");
    let _ = writeln!(text, "# TYPE {name} counter");
    for (key, writers) in writers {
        for code in 0..17 {
            let count: u64 = writers.iter().map(|writer| writer.requests[code].get()).sum();
            if count > 0 {
                let code = code_name(Code::from(code as i32));
                let _ = writeln!(text, "{name}{{{},code=\"{code}\"}} {count}", labels(key));
            }
        }
    }
}

fn refusals_text(text: &mut String, writers: &Writers) {
    let name = "sigmax_refused_total";
    let _ = writeln!(text, "# HELP {name} Requests not run though they were right, by reason.");
    let _ = writeln!(text, "# TYPE {name} counter");
    for (key, writers) in writers.iter().filter(|(key, _)| key.1 > 0) {
        for (refusal, reason) in Refusal::ALL {
            let count: u64 =
                writers.iter().map(|writer| writer.refusals[refusal as usize].get()).sum();
            let _ = writeln!(text, "{name}{{{},reason=\"{reason}\"}} {count}", labels(key));
        }
    }
}

fn histogram_text<const N: usize>(
    text: &mut String,
    writers: &Writers,
    (name, help): (&str, &str),
    unit: f64,
    pick: impl Fn(&ModelMetrics) -> &Histogram<N>,
) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
    for (key, writers) in writers.iter().filter(|(key, _)| key.1 > 0) {
        let all: Vec<_> = writers.iter().map(|writer| pick(writer)).collect();
        let labels = labels(key);
        let mut below = 0;
        for slot in 0..N {
            below += all.iter().map(|one| one.counts[slot].get()).sum::<u64>();
            let bound = all[0].bounds[slot] as f64 / unit;
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        below += all.iter().map(|one| one.over.get()).sum::<u64>();
        let sum = all.iter().map(|one| one.sum.get()).sum::<u64>() as f64 / unit;
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {below}");
        let _ = writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {below}");
    }
}

fn labels((model, version): &(String, u64)) -> String {
    let model = model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("model=\"{model}\",version=\"{version}\"")
}

/// The code as the specification writes it, such as `INVALID_ARGUMENT`.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
