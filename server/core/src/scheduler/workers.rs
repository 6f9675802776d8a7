//! Workers: threads that own an engine each, for GPUs and for models too heavy to run in a shard's
//! loop.
//!
//! A worker whose device has failed, or whose engine has panicked, makes itself another engine, at
//! once and then after growing pauses. The other workers take the requests that come meanwhile. The
//! first try is still part of the service: requests wait for it. After that the worker counts as
//! out, and where it was the last, callers are told that the model is not ready.

use std::fmt;
use std::mem;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::engine::reaper::Reaper;
use crate::engine::thread::{EngineThread, Slot};
use crate::engine::watchdog;
use crate::error::Error;
use crate::loading::factory::EngineFactory;
use crate::metrics::WorkerMetrics;
use crate::model::Model;
use crate::model::device::Device;
use crate::scheduler::batch::Runner;
use crate::scheduler::queue::Queue;
use crate::scheduler::request::Request;

/// Pauses before each further try to make another engine, after the first; then a worker gives up.
pub const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(10)];
/// Time for which a worker is idle before it checks that its engine still works: a lost GPU shows
/// in the server's health before a request meets it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The workers of one model, and the queue they all take from: an idle worker takes the next batch.
/// A drop has the reaper end the threads, each after the batch it runs; the dropping thread does
/// not wait for that.
#[derive(Debug)]
pub struct WorkerPool {
    pool: Arc<Pool>,
    threads: Vec<EngineThread>,
}

/// A callback for the state of a model's workers: the reason when the last worker is out, and none
/// when a worker is back.
pub type Tell = Box<dyn Fn(Option<&str>) + Send + Sync>;

/// The configuration of one model's workers.
pub struct WorkerPoolConfig {
    /// The model that the workers run.
    pub model: Arc<Model>,
    /// The factory that makes another engine where one is lost.
    pub factory: Arc<EngineFactory>,
    /// Pauses before each further try to make another engine; empty: one try only.
    pub pauses: Vec<Duration>,
    /// Time without work after which an engine is checked.
    pub patience: Duration,
    /// The callback that is told when the last worker is out, and when one is back.
    pub tell: Tell,
    /// The reaper that ends the workers' threads.
    pub reaper: Reaper,
}

impl fmt::Debug for WorkerPoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPoolConfig").field("model", &self.model).finish_non_exhaustive()
    }
}

/// A worker to start.
#[derive(Debug)]
pub struct Worker {
    /// The device that the engine runs on.
    pub device: Device,
    /// The thread, which has its engine already.
    pub thread: EngineThread,
    /// The runner that gathers and answers the worker's batches.
    pub runner: Runner,
    /// The metrics that count the worker, perhaps together with others.
    pub metrics: Arc<WorkerMetrics>,
}

#[derive(Debug)]
struct Pool {
    state: Mutex<State>,
    /// The signal that wakes an idle worker.
    changed: Condvar,
    /// The signal that wakes the workers that are out. It is not `changed`, for a worker that is
    /// out would take the wake-up of an idle one, and leave a request unserved.
    closing: Condvar,
    config: WorkerPoolConfig,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    closed: bool,
    /// The number of workers that serve.
    alive: usize,
    /// The reason why no worker serves; none where one does.
    lost: Option<String>,
}

impl WorkerPool {
    /// Starts the workers' threads, which take batches from the queue.
    pub fn start(queue: Queue, workers: Vec<Worker>, config: WorkerPoolConfig) -> Arc<Self> {
        let state = State { queue, closed: false, alive: workers.len(), lost: None };
        let (changed, closing) = (Condvar::new(), Condvar::new());
        let pool = Arc::new(Pool { state: Mutex::new(state), changed, closing, config });
        let start = |worker: Worker| {
            let Worker { device, thread, mut runner, metrics } = worker;
            metrics.alive.fetch_add(1, Relaxed);
            let pool = pool.clone();
            drop(thread.run(move |slot| pool.work(slot, device, &mut runner, &metrics)));
            thread
        };
        let threads = workers.into_iter().map(start).collect();
        Arc::new(Self { pool, threads })
    }

    /// Adds a request, which is refused at once where no worker is left.
    pub fn push(&self, request: Request) {
        let mut state = self.pool.lock();
        state.queue.push(request);
        self.pool.refuse_where_lost(&mut state);
        drop(state);
        self.pool.changed.notify_one();
    }

    /// Calls `tell` again with whether a worker is left.
    pub fn tell(&self) {
        let state = self.pool.lock();
        (self.pool.config.tell)(state.lost.as_deref());
    }
}

impl Pool {
    /// The work of a worker's thread, until the pool is closed or no other engine can be made.
    fn work(&self, slot: &mut Slot, device: Device, runner: &mut Runner, metrics: &WorkerMetrics) {
        while let Some(engine) = slot {
            let Err(fault) = self.serve(&mut **engine, runner) else { return };
            metrics.faults.fetch_add(1, Relaxed);
            self.log(device, "an engine is lost", &fault);
            // The lost engine goes first, for it may hold memory that the next one needs.
            *slot = None;
            *slot = self.another(device, metrics);
        }
    }

    /// Runs batches until the pool is closed, or until the engine is lost.
    ///
    /// A batch is formed when the worker is free, not before: requests that arrive during a run
    /// join the next batch.
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
                let waited = self.changed.wait_timeout(state, self.config.patience);
                let (was, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                state = was;
                if waited.timed_out() {
                    drop(state);
                    engine.check().map_err(|error| error.to_string())?;
                    state = self.lock();
                }
            }
        }
        Ok(())
    }

    /// Another engine for a worker; none where no engine can be made, or the pool is closed.
    fn another(&self, device: Device, metrics: &WorkerMetrics) -> Slot {
        let make = || {
            let Model { spec, report } = &*self.config.model;
            self.config.factory.more(device, report, watchdog::from_now(spec.limits.load_time))
        };
        let mut fault = match make() {
            Ok(engine) => return Some(engine),
            Err(fault) => fault.to_string(),
        };
        metrics.alive.fetch_sub(1, Relaxed);
        self.change(|state| {
            state.alive -= 1;
            // The error's details go to the log alone, for clients read this reason.
            let reason = || format!("no engine is left on {device}; the server's log says why");
            state.lost = (state.alive == 0).then(reason);
        });
        for pause in &self.config.pauses {
            self.log(
                device,
                "a worker has lost its engine, and is out until another is made",
                &fault,
            );
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
                Err(again) => fault = again.to_string(),
            }
        }
        self.log(device, "a worker is given up: no other engine could be made", &fault);
        None
    }

    /// Changes how many workers serve. Where none is left, what waits is refused; where the last
    /// has gone or the first is back, `tell` is called.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        let was_lost = state.lost.is_some();
        change(&mut state);
        self.refuse_where_lost(&mut state);
        if was_lost != state.lost.is_some() {
            (self.config.tell)(state.lost.as_deref());
        }
    }

    /// Refuses every request that waits where no worker is left, for none would answer it.
    fn refuse_where_lost(&self, state: &mut State) {
        if let Some(reason) = &state.lost {
            let spec = &self.config.model.spec;
            let (model, version, reason) = (spec.name.clone(), spec.version, reason.clone());
            state.queue.refuse_all(&Error::NotReady { model, version, reason, lasts: false });
        }
    }

    /// Waits for `pause`; returns early, with true, where the pool is closed meanwhile.
    fn closes_within(&self, pause: Duration) -> bool {
        let waited = self.closing.wait_timeout_while(self.lock(), pause, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn log(&self, device: Device, what: &str, error: &str) {
        let spec = &self.config.model.spec;
        tracing::error!(model = %spec.name, version = spec.version, %device, error, "{what}");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.pool.lock().closed = true;
        self.pool.changed.notify_all();
        self.pool.closing.notify_all();
        self.pool.config.reaper.end(mem::take(&mut self.threads));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::Source;
    use crate::engine::fake::Fake;
    use crate::metrics::Metrics;
    use crate::model::{ModelSpec, Report};
    use crate::scheduler::estimate::Estimate;
    use crate::scheduler::limits::{QueueLimits, Size};
    use crate::scheduler::request::{Data, Input, Prediction};
    use crate::tensor::DType;

    const GPU: Device = Device::Cuda(0);

    fn spec(fake: &Fake) -> ModelSpec {
        ModelSpec {
            name: "fake".into(),
            version: 1,
            inputs: fake.inputs().to_vec(),
            outputs: fake.outputs().to_vec(),
            max_batch_size: 8,
            ..Default::default()
        }
    }

    /// A pool of one worker, with its metrics and the reasons that it tells.
    struct Alone {
        workers: Arc<WorkerPool>,
        queue_limits: Arc<QueueLimits>,
        metrics: Arc<WorkerMetrics>,
        told: mpsc::Receiver<Option<String>>,
    }

    fn alone(fake: &Fake, pauses: Vec<Duration>, patience: Duration) -> Alone {
        let report = Report { rows_independent: true, ..Default::default() };
        let model = Arc::new(Model { spec: spec(fake), report });
        let (source, spec) = (Box::new(fake.clone()), spec(fake));
        let factory = EngineFactory { source, spec, samples: vec![], gpu: Default::default() };
        let factory = Arc::new(factory);
        let queue_limits = QueueLimits::new(100, 1000, &model.spec.batching, Estimate::unknown());
        let queue = Queue::new(queue_limits.clone(), 8, &model.spec.batching);
        let runner =
            Runner::new(model.clone(), Metrics::default().writer("fake", 1), queue_limits.clone());
        let thread = EngineThread::start("worker".into()).expect("a thread");
        let (of_worker, report) = (factory.clone(), model.report.clone());
        let made = thread.run(move |slot| {
            let until = watchdog::from_now(Duration::MAX);
            of_worker.more(GPU, &report, until).map(|it| *slot = Some(it))
        });
        made.recv().expect("no panic").expect("an engine");
        let metrics = WorkerMetrics::new(GPU.to_string());
        let worker = Worker { device: GPU, thread, runner, metrics: metrics.clone() };
        let (teller, told) = mpsc::channel();
        let tell: Tell = Box::new(move |lost| drop(teller.send(lost.map(str::to_owned))));
        let reaper = Reaper::start().expect("a thread");
        let workers = WorkerPool::start(
            queue,
            vec![worker],
            WorkerPoolConfig { model, factory, pauses, patience, tell, reaper },
        );
        Alone { workers, queue_limits, metrics, told }
    }

    impl Alone {
        fn ask(&self, value: f32) -> crate::error::Result<Prediction> {
            let data = Data::Here(bytes::Bytes::copy_from_slice(&value.to_le_bytes()));
            let input = Input { dtype: DType::Fp32, shape: vec![1, 1], data };
            let size = Size { rows: 1, bytes: 4, priority: 0 };
            self.queue_limits.enter(size).expect("room");
            let (reply, answer) = oneshot::channel();
            let (inputs, queued) = (vec![Some(input)], Instant::now());
            let (deadline, expiry, outputs) = (None, None, usize::MAX);
            self.workers.push(Request { inputs, size, deadline, expiry, outputs, queued, reply });
            answer.blocking_recv().expect("an answer")
        }
    }

    #[test]
    fn a_worker_that_gets_no_other_engine_is_given_up_and_takes_nothing_more() {
        let fake = Fake::new(1);
        let alone = alone(&fake, vec![Duration::ZERO; 2], Duration::MAX);
        alone.ask(1.0).expect("answered");
        fake.break_devices(&[GPU]);
        let error = alone.ask(Fake::DEVICE_LOST).expect_err("its device is lost");
        assert_eq!(error, Error::Fault { model: "fake".into() });
        let reason = alone.told.recv().expect("told").expect("a reason");
        assert_eq!(reason, "no engine is left on cuda:0; the server's log says why");
        // The worker's thread lets go of the pool when its work has ended.
        while Arc::strong_count(&alone.workers.pool) > 1 {
            std::thread::yield_now();
        }
        fake.break_devices(&[]);
        let error = alone.ask(1.0).expect_err("nobody is left");
        assert_eq!(
            error,
            Error::NotReady { model: "fake".into(), version: 1, reason, lasts: false }
        );
        assert_eq!(alone.queue_limits.rows(), 0, "its room is given back");
        assert_eq!((alone.metrics.alive.load(Relaxed), alone.metrics.faults.load(Relaxed)), (0, 1));
        assert!(alone.told.try_recv().is_err(), "told once");
    }

    #[test]
    fn an_engine_that_is_lost_while_there_is_nothing_to_run_is_told_of() {
        let fake = Fake::new(1);
        let alone = alone(&fake, vec![], Duration::from_millis(1));
        alone.ask(1.0).expect("answered");
        fake.break_devices(&[GPU]);
        let reason = alone.told.recv().expect("told").expect("a reason");
        assert_eq!(reason, "no engine is left on cuda:0; the server's log says why");
    }

    #[test]
    fn workers_end_while_one_waits_for_its_next_try() {
        let fake = Fake::new(1);
        let alone = alone(&fake, vec![Duration::from_secs(3600)], Duration::MAX);
        fake.break_devices(&[GPU]);
        alone.ask(Fake::DEVICE_LOST).expect_err("its device is lost");
        alone.told.recv().expect("told").expect("a reason");
        let reaper = alone.workers.pool.config.reaper.clone();
        let ended = Arc::downgrade(&alone.workers.pool);
        drop(alone.workers);
        reaper.wait(Duration::MAX);
        assert!(ended.upgrade().is_none());
    }
}
