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

/// The longest time for which the shards, and then the engines, of a model that is replaced or
/// unloaded are waited for.
const ENDING: Duration = Duration::from_secs(10);

impl Server {
    /// Makes a version of a model known, as loading, unless it serves already.
    pub fn declare(&self, name: &str, version: u64) {
        self.state.catalog.set_unless_ready(name, version, State::Loading);
    }

    /// The versions of a model that serve, or should serve and cannot.
    pub fn versions(&self, name: &str) -> Vec<u64> {
        let snapshot = self.state.catalog.read();
        let versions = snapshot.versions(name).into_iter().flatten();
        let wanted = versions.filter(|(_, state)| !matches!(state, State::Unloaded));
        wanted.map(|(version, _)| *version).collect()
    }

    /// Stops serving a version of a model. Requests that were accepted are still answered. Returns
    /// when the version's memory is free, unless such requests still hold it.
    pub fn unload(&self, name: &str, version: u64) {
        self.state.catalog.set(name, version, State::Unloaded);
        let (done, all_done) = blocking::channel();
        for shard in &self.shards {
            shard.remove(Remove { name: name.to_owned(), version, done: done.clone() });
        }
        drop(done);
        // A shard that does not turn hears of the removal later.
        let _ = all_done.recv_timeout(ENDING);
        self.state.metrics.forget(name, version);
        // Callers who unload one model want its memory for another.
        self.reaper.wait(ENDING);
    }

    /// Loads a model: tries it where it may run, warms it up and checks its golden samples. A load
    /// that is not done at the time `until` is given up. The model serves nobody before it is
    /// published.
    pub fn load(&self, described: Described, until: Instant) -> Result<Loaded, LoadError> {
        let Described { source, mut spec, samples } = described;
        spec.limits = self.limits;
        load(EngineFactory { source, spec, samples, gpu: self.gpu }, self.shards.len(), until)
    }

    /// Serves a loaded model from now on, in the place of an earlier one of the same version, which
    /// ends when its last request is answered.
    pub fn publish(&self, loaded: Loaded) {
        let Loaded { model, factory, engines } = loaded;
        let (name, version) = (&model.spec.name, model.spec.version);
        // One model's queue may hold half of the budget, and so leaves the others room.
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
        let (backends, workers) = if model.report.heavy {
            let workers = self.workers(&model, &queue_limits, factory, engines, &mut shown);
            let each = iter::repeat_with(|| Backend::Workers(workers.clone()));
            (each.take(self.shards.len()).collect(), Some(workers))
        } else {
            let taken = engines.iter().map(|(_, thread)| thread.run(Option::take).recv().ok()?);
            (taken.flatten().map(Backend::Inline).collect(), None)
        };
        self.install(&model, &queue_limits, backends);
        self.state.metrics.show(name, version, shown);
        self.state.catalog.set(name, version, State::Ready(model.clone()));
        if let Some(workers) = workers {
            // Workers that were lost before now could not be told of: the catalog did not know the
            // model yet.
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

    /// Has every shard serve a model. Waits until all shards that turn do, and until the model that
    /// this one replaces has ended.
    fn install(&self, model: &Arc<Model>, queue_limits: &Arc<QueueLimits>, backends: Vec<Backend>) {
        let (done, all_done) = blocking::channel();
        for (shard, backend) in self.shards.iter().zip(backends) {
            let (model, queue_limits, done) = (model.clone(), queue_limits.clone(), done.clone());
            shard.install(Install { model, backend, queue_limits, done });
        }
        drop(done);
        // A shard that does not turn serves the model later.
        let _ = all_done.recv_timeout(ENDING);
        self.reaper.wait(ENDING);
    }

    /// Marks a declared version of a model as unavailable, for this reason, unless it serves
    /// already.
    pub fn fail(&self, name: &str, version: u64, reason: String) {
        self.state.catalog.set_unless_ready(name, version, State::Unavailable(reason));
    }

    /// Forgets a version that does not serve: nothing tells any more that it was tried.
    pub fn forget(&self, name: &str, version: u64) {
        self.state.catalog.forget(name, version);
    }
}
