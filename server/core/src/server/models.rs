//! The models of a running server: loaded, published, unloaded.

use std::iter;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use crate::engine::thread::EngineThread;
use crate::loading::description::Described;
use crate::loading::error::LoadError;
use crate::loading::factory::EngineFactory;
use crate::loading::load::{Loaded, load};
use crate::metrics::{Gauge, Shown, WorkerMetrics};
use crate::model::catalog::State;
use crate::model::device::Device;
use crate::model::{Model, ModelSpec};
use crate::scheduler::batch::Runner;
use crate::scheduler::estimate::Estimate;
use crate::scheduler::limits::QueueLimits;
use crate::scheduler::queue::Queue;
use crate::scheduler::served_model::Backend;
use crate::scheduler::workers::{PATIENCE, PAUSES, Worker, WorkerPool, WorkerPoolConfig};
use crate::server::Server;
use crate::shard::handle::{Install, Remove};

/// The longest that is waited for the engines of a model that is replaced or unloaded.
const ENDING: Duration = Duration::from_secs(10);

impl Server {
    /// Makes a model known, as loading, unless it serves already.
    pub fn declare(&self, name: &str, version: u64) {
        self.state.catalog.set_unless_ready(name, version, State::Loading);
    }

    /// The versions of a model that serve, or should and cannot.
    pub fn versions(&self, name: &str) -> Vec<u64> {
        let snapshot = self.state.catalog.read();
        let versions = snapshot.versions(name).into_iter().flatten();
        let wanted = versions.filter(|(_, state)| !matches!(state, State::Unloaded));
        wanted.map(|(version, _)| *version).collect()
    }

    /// Serves a version of a model no more; what was accepted is still answered. Returns when its
    /// memory is free, unless it is still asked.
    pub fn unload(&self, name: &str, version: u64) {
        self.state.catalog.set(name, version, State::Unloaded);
        let (done, all_done) = blocking::channel();
        for shard in &self.shards {
            shard.remove(Remove { name: name.to_owned(), version, done: done.clone() });
        }
        drop(done);
        // A shard that does not turn hears of it later.
        let _ = all_done.recv_timeout(ENDING);
        self.state.metrics.forget(name, version);
        // Callers who unload one model want its memory for another.
        self.reaper.wait(ENDING);
    }

    /// Tries a model where it may run, warms it up and checks its golden samples. What is not done at
    /// this time is given up. Nobody is served by it before it is published.
    pub fn load(&self, described: Described, until: Instant) -> Result<Loaded, LoadError> {
        let Described { source, mut spec, samples } = described;
        spec.limits = self.limits;
        load(EngineFactory { source, spec, samples, gpu: self.gpu }, self.shards.len(), until)
    }

    /// Serves a loaded model from now on, in the place of the same version, which ends when nobody is
    /// answered by it any more.
    pub fn publish(&self, loaded: Loaded) {
        let Loaded { model, factory, engines } = loaded;
        let (name, version) = (&model.spec.name, model.spec.version);
        // One model's queue leaves the others room.
        let bytes = self.state.budget.share();
        let estimate = Estimate::new(&model, engines.len());
        let queue_limits = QueueLimits::new(self.queue_rows, bytes, &model.spec.batching, estimate);
        // Statistics begin anew with every load.
        self.state.metrics.forget(name, version);
        let queued = queue_limits.clone();
        let mut shown = Shown {
            queued_rows: Gauge::new(move || queued.rows()),
            device: model.report.device.clone(),
            workers: Vec::new(),
        };
        let (runs, workers) = if model.report.heavy {
            let workers = self.workers(&model, &queue_limits, factory, engines, &mut shown);
            let each = iter::repeat_with(|| Backend::Workers(workers.clone()));
            (each.take(self.shards.len()).collect(), Some(workers))
        } else {
            let taken = engines.iter().map(|(_, thread)| thread.run(Option::take).recv().ok()?);
            (taken.flatten().map(Backend::Inline).collect(), None)
        };
        self.install(&model, &queue_limits, runs);
        self.state.metrics.show(name, version, shown);
        self.state.catalog.set(name, version, State::Ready(model.clone()));
        if let Some(workers) = workers {
            // Nobody was there to hear of workers that were lost already.
            workers.tell();
        }
    }

    /// Starts a worker on every thread.
    fn workers(
        &self,
        model: &Arc<Model>,
        queue_limits: &Arc<QueueLimits>,
        factory: Arc<EngineFactory>,
        threads: Vec<(Device, EngineThread)>,
        shown: &mut Shown,
    ) -> Arc<WorkerPool> {
        let ModelSpec { name, version, batching, .. } = &model.spec;
        let queue = Queue::new(queue_limits.clone(), model.batch_rows(), batching);
        let worker = |(device, thread): (Device, EngineThread)| {
            let metrics = self.state.metrics.writer(name, *version);
            let runner = Runner::new(model.clone(), metrics, queue_limits.clone());
            let of_device = device.to_string();
            let known = shown.workers.iter().find(|metrics| metrics.device == of_device);
            let metrics = known.cloned().unwrap_or_else(|| {
                let metrics = WorkerMetrics::new(of_device);
                shown.workers.push(metrics.clone());
                metrics
            });
            Worker { device, thread, runner, metrics }
        };
        let workers = threads.into_iter().map(worker).collect();
        let (state, told) = (self.state.clone(), model.clone());
        let tell = move |lost: Option<&str>| state.catalog.set_lost(&told, lost);
        let config = WorkerPoolConfig {
            model: model.clone(),
            factory,
            pauses: PAUSES.into(),
            patience: PATIENCE,
            tell: Box::new(tell),
            reaper: self.reaper.clone(),
        };
        WorkerPool::start(queue, workers, config)
    }

    /// Has every shard serve a model, and waits until all that turn do and what it replaces has ended.
    fn install(&self, model: &Arc<Model>, queue_limits: &Arc<QueueLimits>, runs: Vec<Backend>) {
        let (done, all_done) = blocking::channel();
        for (shard, runs) in self.shards.iter().zip(runs) {
            let (model, queue_limits, done) = (model.clone(), queue_limits.clone(), done.clone());
            shard.install(Install { model, runs, queue_limits, done });
        }
        drop(done);
        // A shard that does not turn serves it later.
        let _ = all_done.recv_timeout(ENDING);
        self.reaper.wait(ENDING);
    }

    /// Marks a declared model as unavailable, unless it serves already.
    pub fn fail(&self, name: &str, version: u64, reason: String) {
        self.state.catalog.set_unless_ready(name, version, State::Unavailable(reason));
    }

    /// Drops what is known of a version that does not serve; nothing tells that it was tried.
    pub fn forget(&self, name: &str, version: u64) {
        self.state.catalog.forget(name, version);
    }
}
