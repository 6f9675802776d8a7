//! A model as one shard serves it: it takes checked requests, and runs them in the shard's loop or
//! has workers run them.

use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout_at;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::metrics::model::ModelMetrics;
use crate::metrics::outcome::Refusal;
use crate::model::Model;
use crate::scheduler::admission::{Admission, RequestOptions};
use crate::scheduler::batch::Runner;
use crate::scheduler::give_way;
use crate::scheduler::inline::InlineQueue;
use crate::scheduler::limits::{QueueLimits, Size};
use crate::scheduler::queue::Queue;
use crate::scheduler::request::{Prediction, Request, ValidRequest};
use crate::scheduler::workers::WorkerPool;

/// The place where a model runs.
#[derive(Debug)]
pub enum Backend {
    /// A light model runs in the shard's loop, on this engine.
    Inline(Box<dyn Engine>),
    /// A heavy model runs in workers, which all shards share.
    Workers(Arc<WorkerPool>),
}

/// A model in a shard's table.
#[derive(Debug)]
pub struct ServedModel {
    /// The model's specification and its warm-up's report.
    pub model: Arc<Model>,
    /// The metrics that this shard counts for the model.
    pub metrics: Arc<ModelMetrics>,
    queue_limits: Arc<QueueLimits>,
    executor: Executor,
}

#[derive(Debug)]
enum Executor {
    Inline(Rc<InlineQueue>, AbortHandle),
    Workers(Arc<WorkerPool>),
}

impl Drop for Executor {
    /// Ends the task that runs batches, and its engine: no caller waits for an answer any more.
    fn drop(&mut self) {
        if let Self::Inline(_, batches) = self {
            batches.abort();
        }
    }
}

impl ServedModel {
    /// A model that this thread's shard serves.
    pub fn new(
        model: Arc<Model>,
        backend: Backend,
        queue_limits: Arc<QueueLimits>,
        metrics: Arc<ModelMetrics>,
    ) -> Self {
        let executor = match backend {
            Backend::Workers(workers) => Executor::Workers(workers),
            Backend::Inline(engine) => {
                let queue =
                    Queue::new(queue_limits.clone(), model.batch_rows(), &model.spec.batching);
                let runner = Runner::new(model.clone(), metrics.clone(), queue_limits.clone());
                let (inline, batches) = InlineQueue::start(queue, engine, runner);
                Executor::Inline(inline, batches)
            }
        };
        Self { model, metrics, queue_limits, executor }
    }

    /// Queues a request, and waits for its answer until its batch has run or its deadline has
    /// passed.
    pub async fn run(&self, request: ValidRequest, options: RequestOptions) -> Result<Prediction> {
        let queued = Instant::now();
        let ValidRequest { inputs, rows } = request;
        let batching = &self.model.spec.batching;
        let priority = batching.priority(options.priority);
        let bytes = inputs.iter().flatten().map(|input| input.data.len()).sum();
        let size = Size { rows, bytes, priority };
        self.admission().admit(size, queued, options).inspect_err(|_| give_way::refused())?;
        let (reply, answer) = oneshot::channel();
        let patience = batching.priorities[priority].timeout(options.patience);
        let expiry = patience.and_then(|patience| queued.checked_add(patience));
        let limits = &self.model.spec.limits;
        let outputs = if options.all_outputs { limits.answer } else { limits.outputs };
        let request =
            Request { inputs, size, deadline: options.deadline, expiry, outputs, queued, reply };
        match &self.executor {
            Executor::Workers(workers) => workers.push(request),
            Executor::Inline(inline, _) => inline.push(request),
        }
        let waiting = Waiting(&self.metrics);
        let answer = match (&self.executor, options.deadline) {
            // The workers may be busy with other batches until long after the deadline.
            (Executor::Workers(_), Some(deadline)) => timeout_at(deadline.into(), answer).await,
            _ => Ok(answer.await),
        };
        mem::forget(waiting);
        answer.map_or(Err(Error::DeadlineExceeded), |come| come.unwrap_or(Err(Error::Internal)))
    }

    fn admission(&self) -> Admission<'_> {
        Admission {
            model: &self.model.spec.name,
            limits: &self.queue_limits,
            by_workers: matches!(self.executor, Executor::Workers(_)),
        }
    }
}

/// A request that waits for its answer. A drop means that its client has given it up, and is
/// counted.
struct Waiting<'a>(&'a ModelMetrics);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.refused(Refusal::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::spawn_local;

    use super::*;
    use crate::engine::fake::Fake;
    use crate::engine::reaper::Reaper;
    use crate::engine::{Engine, Source};
    use crate::loading::factory::EngineFactory;
    use crate::metrics::Metrics;
    use crate::model::device::GpuOptions;
    use crate::model::{ModelSpec, Report};
    use crate::scheduler::estimate::Estimate;
    use crate::scheduler::request::{Data, Input};
    use crate::scheduler::workers::WorkerPoolConfig;
    use crate::tensor::DType;

    fn served(fake: &Fake, batch_rows: usize) -> ServedModel {
        let spec = ModelSpec {
            name: "fake".into(),
            version: 1,
            inputs: fake.inputs().to_vec(),
            outputs: fake.outputs().to_vec(),
            max_batch_size: 1000,
            ..Default::default()
        };
        let report = Report {
            heavy: false,
            rows_independent: true,
            preferred_batch_size: batch_rows,
            microseconds_per_batch: vec![(1, 10.0)],
            ..Default::default()
        };
        let metrics = Metrics::default().writer("fake", 1);
        let engine: Box<dyn Engine> = Box::new(fake.clone());
        let model = Arc::new(Model { spec, report });
        let queue_limits =
            QueueLimits::new(100, 1000, &model.spec.batching, Estimate::new(&model, 1));
        ServedModel::new(model, Backend::Inline(engine), queue_limits, metrics)
    }

    fn request(value: f32) -> ValidRequest {
        let data = bytes::Bytes::copy_from_slice(&value.to_le_bytes());
        let input = Input { dtype: DType::Fp32, shape: vec![1, 1], data: Data::Here(data) };
        ValidRequest { inputs: vec![Some(input)], rows: 1 }
    }

    /// Runs as many requests, which all come in one turn of the loop; returns the rows of each run.
    fn run(requests: usize, batch_rows: usize) -> Vec<usize> {
        let fake = Fake::new(1);
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default());
        runtime.expect("a loop").block_on(async {
            let served = Rc::new(served(&fake, batch_rows));
            let tasks: Vec<_> = (0..requests)
                .map(|number| {
                    let served = served.clone();
                    spawn_local(async move {
                        served.run(request(number as f32), RequestOptions::default()).await
                    })
                })
                .collect();
            for (number, task) in tasks.into_iter().enumerate() {
                let answer = task.await.expect("no panic").expect("an answer");
                assert_eq!(
                    *answer.outputs[0].data,
                    (number as f32).to_le_bytes(),
                    "everyone gets his own answer"
                );
            }
        });
        fake.take_sizes()
    }

    #[test]
    fn a_shard_that_is_behind_gives_workers_nothing_that_has_a_deadline() {
        let fake = Fake::new(1);
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default());
        runtime.expect("a loop").block_on(async {
            let ServedModel { model, metrics, queue_limits, .. } = served(&fake, 8);
            let queue = Queue::new(queue_limits.clone(), 8, &model.spec.batching);
            let (source, spec) = (Box::new(fake), model.spec.clone());
            let factory =
                EngineFactory { source, spec, samples: vec![], gpu: GpuOptions::default() };
            let config = WorkerPoolConfig {
                model: model.clone(),
                factory: Arc::new(factory),
                pauses: vec![],
                patience: Duration::MAX,
                tell: Box::new(|_| ()),
                reaper: Reaper::start().expect("a thread"),
            };
            let workers = WorkerPool::start(queue, vec![], config);
            let served = ServedModel::new(model, Backend::Workers(workers), queue_limits, metrics);
            let size = Size { rows: 1, bytes: 4, priority: 0 };
            let begun_after = |waited: u64| {
                let arrived = Instant::now();
                let deadline = Some(arrived + Duration::from_millis(50));
                let options =
                    RequestOptions { ready: Some(arrived), deadline, ..Default::default() };
                served.admission().admit(size, arrived + Duration::from_millis(waited), options)
            };
            assert_eq!(begun_after(9), Ok(()));
            let [expected, left] = [44, 39].map(Duration::from_millis);
            assert_eq!(begun_after(11), Err(Error::TooLate { expected, left }));
            assert_eq!(
                served.admission().admit(size, Instant::now(), RequestOptions::default()),
                Ok(())
            );
        });
    }

    #[test]
    fn a_lone_request_runs_at_once() {
        assert_eq!(run(1, 64), [1]);
    }

    #[test]
    fn the_requests_of_a_turn_run_as_one_batch() {
        assert_eq!(run(50, 64), [50]);
    }

    #[test]
    fn a_turn_over_the_batch_size_runs_in_several() {
        assert_eq!(run(50, 20), [20, 20, 10]);
    }
}
