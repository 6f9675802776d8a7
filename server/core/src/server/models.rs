//! The models of a running server: loaded, published, unloaded.

use std::iter;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use crate::engine::thread::EngineThread;
use crate::loading::description::Described;
use crate::loading::error::LoadError;
use crate::loading::factory::Maker;
use crate::loading::load::{Loaded, load};
use crate::metrics::{Gauge, LaneMetrics, Shown};
use crate::model::catalog::State;
use crate::model::device::Device;
use crate::model::{Model, ModelSpec};
use crate::scheduler::batch::Runner;
use crate::scheduler::estimate::Pace;
use crate::scheduler::limits::Depth;
use crate::scheduler::queue::Queue;
use crate::scheduler::served_model::Runs;
use crate::scheduler::workers::{Crew, Lane, Lanes, PATIENCE, PAUSES};
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
        let book = self.state.catalog.read();
        let versions = book.versions(name).into_iter().flatten();
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
        // One that does not turn hears of it later.
        let _ = all_done.recv_timeout(ENDING);
        self.state.metrics.forget(name, version);
        // Who unloads one model wants to have its memory for another.
        self.ender.wait(ENDING);
    }

    /// Tries a model where it may run, warms it up and checks its golden samples. What is not done at
    /// this time is given up. Nobody is served by it before it is published.
    pub fn load(&self, described: Described, until: Instant) -> Result<Loaded, LoadError> {
        let Described { source, mut spec, samples } = described;
        spec.limits = self.limits;
        load(Maker { source, spec, samples, gpu: self.gpu }, self.shards.len(), until)
    }

    /// Serves a loaded model from now on, in the place of the same version, which ends when nobody is
    /// answered by it any more.
    pub fn publish(&self, loaded: Loaded) {
        let Loaded { model, maker, engines } = loaded;
        let (name, version) = (&model.spec.name, model.spec.version);
        // One model's queue leaves the others room.
        let bytes = self.state.memory.share();
        let pace = Pace::new(&model, engines.len());
        let depth = Depth::new(self.queue_rows, bytes, &model.spec.batching, pace);
        // Statistics begin anew with every load.
        self.state.metrics.forget(name, version);
        let queued = depth.clone();
        let mut shown = Shown {
            queued_rows: Gauge::new(move || queued.rows()),
            device: model.report.device.clone(),
            lanes: Vec::new(),
        };
        let (runs, lanes) = if model.report.heavy {
            let lanes = self.lanes(&model, &depth, maker, engines, &mut shown);
            let each = iter::repeat_with(|| Runs::InLanes(lanes.clone()));
            (each.take(self.shards.len()).collect(), Some(lanes))
        } else {
            let taken = engines.iter().map(|(_, thread)| thread.run(Option::take).recv().ok()?);
            (taken.flatten().map(Runs::Here).collect(), None)
        };
        self.install(&model, &depth, runs);
        self.state.metrics.show(name, version, shown);
        self.state.catalog.set(name, version, State::Ready(model.clone()));
        if let Some(lanes) = lanes {
            // Where they have been lost already, nobody was there to hear of it.
            lanes.tell();
        }
    }

    /// Starts a lane on every thread.
    fn lanes(
        &self,
        model: &Arc<Model>,
        depth: &Arc<Depth>,
        maker: Arc<Maker>,
        threads: Vec<(Device, EngineThread)>,
        shown: &mut Shown,
    ) -> Arc<Lanes> {
        let ModelSpec { name, version, batching, .. } = &model.spec;
        let queue = Queue::new(depth.clone(), model.batch_rows(), batching);
        let lane = |(device, thread): (Device, EngineThread)| {
            let metrics = self.state.metrics.writer(name, *version);
            let runner = Runner::new(model.clone(), metrics, depth.clone());
            let of_device = device.to_string();
            let known = shown.lanes.iter().find(|metrics| metrics.device == of_device);
            let metrics = known.cloned().unwrap_or_else(|| {
                let metrics = LaneMetrics::new(of_device);
                shown.lanes.push(metrics.clone());
                metrics
            });
            Lane { device, thread, runner, metrics }
        };
        let lanes = threads.into_iter().map(lane).collect();
        let (state, told) = (self.state.clone(), model.clone());
        let tell = move |lost: Option<&str>| state.catalog.set_lost(&told, lost);
        let crew = Crew {
            model: model.clone(),
            maker,
            pauses: PAUSES.into(),
            patience: PATIENCE,
            tell: Box::new(tell),
            ender: self.ender.clone(),
        };
        Lanes::start(queue, lanes, crew)
    }

    /// Has every shard serve a model, and waits until all that turn do and what it replaces has ended.
    fn install(&self, model: &Arc<Model>, depth: &Arc<Depth>, runs: Vec<Runs>) {
        let (done, all_done) = blocking::channel();
        for (shard, runs) in self.shards.iter().zip(runs) {
            let (model, depth, done) = (model.clone(), depth.clone(), done.clone());
            shard.install(Install { model, runs, depth, done });
        }
        drop(done);
        // One that does not turn serves it later.
        let _ = all_done.recv_timeout(ENDING);
        self.ender.wait(ENDING);
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
