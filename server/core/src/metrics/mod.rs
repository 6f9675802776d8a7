//! Counters and histograms. Each thread writes its own, and requests never wait for a scrape, which
//! sums them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::access::AccessMetrics;
use crate::metrics::model::ModelMetrics;
use crate::metrics::reloads::Reloads;
use crate::metrics::statistics::Statistics;
use crate::metrics::tls::TlsMetrics;

pub mod access;
pub mod counters;
pub mod model;
pub mod outcome;
pub mod prometheus;
pub mod reloads;
pub mod statistics;
pub mod timings;
pub mod tls;

/// The metrics of one model's workers on one device.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// The device, such as `cuda:0`.
    pub device: String,
    /// The number of workers that serve.
    pub alive: AtomicUsize,
    /// The number of engines that were lost.
    pub faults: AtomicU64,
}

impl WorkerMetrics {
    /// Metrics that count no worker yet.
    pub fn new(device: String) -> Arc<Self> {
        Arc::new(Self { device, alive: AtomicUsize::new(0), faults: AtomicU64::new(0) })
    }
}

/// A number that is looked up at every scrape.
pub struct Gauge(Box<dyn Fn() -> usize + Send + Sync>);

impl Gauge {
    /// A gauge of the number that `look` returns.
    pub fn new(look: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self(Box::new(look))
    }

    /// The number as it is now.
    pub fn get(&self) -> usize {
        (self.0)()
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gauge").field(&self.get()).finish()
    }
}

/// The facts about a version of a model that are shown beside its counters.
#[derive(Debug)]
pub struct Shown {
    /// The rows that wait for a batch.
    pub queued_rows: Gauge,
    /// The devices that the model runs on, such as `cpu`, or `cuda:0, cuda:1`.
    pub device: String,
    /// The model's workers, by device; none where it runs in the shards' loops.
    pub workers: Vec<Arc<WorkerMetrics>>,
}

/// The metrics of every thread, by model and version.
pub type Writers = BTreeMap<(String, u64), Vec<Arc<ModelMetrics>>>;

/// The metrics of a server.
#[derive(Debug, Default)]
pub struct Metrics {
    pub writers: Mutex<Writers>,
    pub shown: Mutex<BTreeMap<(String, u64), Shown>>,
    /// Connections accepted so far.
    pub connections: AtomicU64,
    /// Connections refused for being too many.
    pub connections_refused: AtomicU64,
    /// Idle connections ended to make room for others.
    pub connections_evicted: AtomicU64,
    /// Connections whose clients did not begin to speak HTTP/2 in time.
    pub handshakes_late: AtomicU64,
    /// Connections cut off because their clients kept a message waiting or took no answer.
    pub connections_stalled: AtomicU64,
    /// Connections whose clients were asked to connect anew, for their age.
    pub connections_aged: AtomicU64,
    /// The counts of TLS; none: the ports are plain.
    pub tls: Option<TlsMetrics>,
    /// The counts of callers that were refused; none: nobody is asked who they are.
    pub access: Option<Arc<AccessMetrics>>,
    /// Changes of files that are read again.
    pub reloads: Reloads,
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

    /// Drops all metrics of a version of a model, because it is loaded anew or unloaded.
    pub fn forget(&self, model: &str, version: u64) {
        let key = (model.to_owned(), version);
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// The statistics of a version of a model, over all threads.
    pub fn statistics(&self, model: &str, version: u64) -> Statistics {
        let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Statistics::default();
        let of_model = writers.get(&(model.to_owned(), version)).into_iter().flatten();
        of_model.for_each(|writer| writer.add_to(&mut sum));
        sum
    }

    /// Shows these facts about a version of a model from now on.
    pub fn show(&self, model: &str, version: u64, what: Shown) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.insert((model.to_owned(), version), what);
    }
}
