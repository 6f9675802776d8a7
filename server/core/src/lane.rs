//! Lanes: threads that own an engine each, for GPUs and for models too heavy to run in a shard's
//! loop.
//!
//! A lane whose device has failed, or whose engine has panicked, makes itself another engine, at
//! once and then after growing pauses; what comes meanwhile is taken by the other lanes. The first
//! try is still part of the service: requests wait for it. After that the lane counts as out, and
//! where it was the last, whoever asks is told that the model is not ready.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::Runner;
use crate::engine::Engine;
use crate::engine::device::Device;
use crate::engine_thread::{EngineThread, Slot};
use crate::error::Error;
use crate::maker::Maker;
use crate::metrics::LaneMetrics;
use crate::model::Model;
use crate::queue::{Job, Queue};

/// What a lane waits between its tries to make another engine, after the first; then it gives up.
pub const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(10)];

/// The lanes of one model, and the queue they all take from: an idle one takes the next batch.
/// Dropping them ends the threads, each after the batch it runs.
#[derive(Debug)]
pub struct Lanes {
    shared: Arc<Shared>,
    /// They end when this is dropped, which is after `shared` has been told so.
    threads: Vec<EngineThread>,
}

/// What lanes are started with.
pub struct Crew {
    /// What they run.
    pub model: Arc<Model>,
    /// Where another engine comes from.
    pub maker: Arc<Maker>,
    /// Waits between the tries to get another engine.
    pub pauses: Vec<Duration>,
    /// Hears when the last lane is out, and why; and of nothing when one is back.
    pub tell: Box<dyn Fn(Option<&str>) + Send + Sync>,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("model", &self.model).finish_non_exhaustive()
    }
}

/// A lane to start.
#[derive(Debug)]
pub struct Lane {
    /// What its engine runs on.
    pub device: Device,
    /// Has the engine already.
    pub thread: EngineThread,
    /// Gathers its batches.
    pub runner: Runner,
    /// Counts it, perhaps among others.
    pub metrics: Arc<LaneMetrics>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes a lane that is idle.
    changed: Condvar,
    /// Wakes the lanes that are out: one that took an idle lane's call would let a request lie.
    closing: Condvar,
    crew: Crew,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    closed: bool,
    /// Lanes that serve.
    alive: usize,
    /// Why none does.
    lost: Option<String>,
}

impl Lanes {
    /// Has the lanes take from the queue.
    pub fn start(queue: Queue, lanes: Vec<Lane>, crew: Crew) -> Arc<Self> {
        let state = State { queue, closed: false, alive: lanes.len(), lost: None };
        let (changed, closing) = (Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { state: Mutex::new(state), changed, closing, crew });
        let start = |lane: Lane| {
            let Lane { device, thread, mut runner, metrics } = lane;
            metrics.alive.fetch_add(1, Relaxed);
            let shared = shared.clone();
            drop(thread.run(move |slot| shared.work(slot, device, &mut runner, &metrics)));
            thread
        };
        let threads = lanes.into_iter().map(start).collect();
        Arc::new(Self { shared, threads })
    }

    /// Adds a request; it is refused at once where no lane is left.
    pub fn push(&self, job: Job) {
        let mut state = self.shared.lock();
        state.queue.push(job);
        self.shared.refuse_where_lost(&mut state);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Tells again whether a lane is left.
    pub fn tell(&self) {
        let state = self.shared.lock();
        (self.shared.crew.tell)(state.lost.as_deref());
    }
}

impl Shared {
    /// The life of a lane.
    fn work(&self, slot: &mut Slot, device: Device, runner: &mut Runner, metrics: &LaneMetrics) {
        while let Some(engine) = slot {
            let Err(fault) = self.serve(&mut **engine, runner) else { return };
            metrics.faults.fetch_add(1, Relaxed);
            self.log(device, "an engine is lost", &fault);
            // It may hold what the next one needs.
            *slot = None;
            *slot = self.another(device, metrics);
        }
    }

    /// Runs batches until there are no more, or until the engine is lost.
    ///
    /// A batch is formed when the lane is free, not before: what arrives during a run joins the
    /// next.
    fn serve(&self, engine: &mut dyn Engine, runner: &mut Runner) -> Result<(), String> {
        let mut batch = Vec::new();
        let mut state = self.lock();
        while !state.closed {
            let now = Instant::now();
            let until = state.queue.next_batch(&mut batch, now);
            if !batch.is_empty() {
                drop(state);
                runner.run(engine, &mut batch)?;
                state = self.lock();
            } else if let Some(until) = until {
                let waited = self.changed.wait_timeout(state, until - now);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        Ok(())
    }

    /// Another engine for a lane; nothing where none can be had, or none is wanted any more.
    fn another(&self, device: Device, metrics: &LaneMetrics) -> Slot {
        let make = || self.crew.maker.more(device, &self.crew.model.report);
        let mut fault = match make() {
            Ok(engine) => return Some(engine),
            Err(fault) => fault,
        };
        metrics.alive.fetch_sub(1, Relaxed);
        self.change(|state| {
            state.alive -= 1;
            // Details are for the log.
            let reason = || format!("no engine is left on {device}; the server's log says why");
            state.lost = (state.alive == 0).then(reason);
        });
        for pause in &self.crew.pauses {
            self.log(device, "a lane is out", &fault);
            if self.closes_within(*pause) {
                return None;
            }
            match make() {
                Ok(engine) => {
                    metrics.alive.fetch_add(1, Relaxed);
                    self.change(|state| {
                        state.alive += 1;
                        state.lost = None;
                    });
                    return Some(engine);
                }
                Err(again) => fault = again,
            }
        }
        self.log(device, "a lane is given up", &fault);
        None
    }

    /// Changes how many lanes there are.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        let was_lost = state.lost.is_some();
        change(&mut state);
        self.refuse_where_lost(&mut state);
        if was_lost != state.lost.is_some() {
            (self.crew.tell)(state.lost.as_deref());
        }
    }

    /// Nobody would answer what waits.
    fn refuse_where_lost(&self, state: &mut State) {
        if let Some(reason) = &state.lost {
            let spec = &self.crew.model.spec;
            let (model, version, reason) = (spec.name.clone(), spec.version, reason.clone());
            state.queue.refuse_all(&Error::NotReady { model, version, reason });
        }
    }

    /// Waits so long; whether the lanes are to end meanwhile.
    fn closes_within(&self, pause: Duration) -> bool {
        let waited = self.closing.wait_timeout_while(self.lock(), pause, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn log(&self, device: Device, what: &str, error: &str) {
        let spec = &self.crew.model.spec;
        tracing::error!(model = %spec.name, version = spec.version, %device, error, "{what}");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        self.shared.closing.notify_all();
        self.threads.clear();
    }
}
