//! A model as one shard serves it: takes checked requests, and runs those of a turn as one batch.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, spawn_local, yield_now};

use crate::batch::Runner;
use crate::check::Checked;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lane::Lanes;
use crate::metrics::ModelMetrics;
use crate::model::Model;
use crate::queue::{Answer, Depth, Job, Queue};

/// Where a model runs.
#[derive(Debug)]
pub enum Runs {
    /// In the shard's loop: a light model.
    Here(Box<dyn Engine>),
    /// In lanes that all shards share: a heavy one.
    InLanes(Arc<Lanes>),
}

/// A model in a shard's table.
#[derive(Debug)]
pub struct Served {
    /// The model.
    pub model: Arc<Model>,
    /// What this shard has counted of it.
    pub metrics: Arc<ModelMetrics>,
    depth: Arc<Depth>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Turn(Rc<Turn>, AbortHandle),
    Lanes(Arc<Lanes>),
}

impl Drop for Way {
    /// Nobody waits for an answer any more: the engine can go.
    fn drop(&mut self) {
        if let Self::Turn(_, batches) = self {
            batches.abort();
        }
    }
}

/// What the batcher of a turn waits for.
#[derive(Debug)]
struct Turn {
    queue: RefCell<Queue>,
    filled: Notify,
}

impl Served {
    /// Serves a model from this thread on.
    pub fn new(
        model: Arc<Model>,
        runs: Runs,
        depth: Arc<Depth>,
        metrics: Arc<ModelMetrics>,
    ) -> Self {
        let way = match runs {
            Runs::InLanes(lanes) => Way::Lanes(lanes),
            Runs::Here(engine) => {
                let queue = RefCell::new(Queue::new(depth.clone(), model.batch_rows()));
                let turn = Rc::new(Turn { queue, filled: Notify::new() });
                let runner = Runner::new(engine, model.clone(), metrics.clone());
                let batches = spawn_local(batches(turn.clone(), runner));
                Way::Turn(turn, batches.abort_handle())
            }
        };
        Self { model, metrics, depth, way }
    }

    /// Queues a request; its answer comes when its batch has run.
    /// `patience` is the longest that it asks to wait for that.
    pub async fn run(
        &self,
        request: Checked,
        deadline: Option<Instant>,
        patience: Option<Duration>,
    ) -> Result<Answer> {
        let queued = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= queued) {
            return Err(Error::DeadlineExceeded);
        }
        let Checked { inputs, rows } = request;
        self.depth.enter(rows).map_err(|waiting| self.queue_full(waiting))?;
        let (reply, answer) = oneshot::channel();
        let patience = self.model.spec.queue_policy.timeout(patience);
        let expiry = patience.and_then(|patience| queued.checked_add(patience));
        let job = Job { inputs, rows, deadline, expiry, queued, reply };
        match &self.way {
            Way::Lanes(lanes) => lanes.push(job),
            Way::Turn(turn, _) => {
                turn.queue.borrow_mut().push(job);
                turn.filled.notify_one();
            }
        }
        answer.await.unwrap_or(Err(Error::Internal))
    }

    /// With the time that the rows that wait will take, by the measured run times.
    fn queue_full(&self, rows: usize) -> Error {
        let microseconds = match self.model.report.microseconds_per_batch.last() {
            Some((batch, time)) => time / *batch as f64 * rows as f64,
            None => 0.0,
        };
        let retry_after = Duration::from_micros(microseconds as u64).max(Duration::from_millis(1));
        let model = self.model.spec.name.clone();
        Error::QueueFull { model, rows, limit: self.depth.limit(), retry_after }
    }
}

/// Runs what waits, one batch a turn of the loop.
async fn batches(turn: Rc<Turn>, mut runner: Runner) {
    let mut batch = Vec::new();
    loop {
        turn.filled.notified().await;
        while !turn.queue.borrow().is_empty() {
            // Once around the loop: every request that the sockets have delivered joins, and
            // the answers of the batch before leave.
            yield_now().await;
            turn.queue.borrow_mut().next_batch(&mut batch, Instant::now());
            if !batch.is_empty() {
                runner.run(&mut batch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::engine::fake::Fake;
    use crate::engine::{Engine, Source};
    use crate::metrics::Metrics;
    use crate::model::{ModelSpec, Report};
    use crate::queue::{Data, Input};
    use crate::tensor::DType;

    fn served(fake: &Fake, batch_rows: usize) -> Served {
        let spec = ModelSpec {
            name: "fake".into(),
            version: 1,
            inputs: fake.inputs().to_vec(),
            outputs: fake.outputs().to_vec(),
            max_batch_size: 1000,
            task: None,
            labels: vec![],
            thresholds: vec![],
            tolerance: 0.0,
            device: "cpu".into(),
            queue_policy: Default::default(),
            config: Default::default(),
        };
        let report = Report {
            heavy: false,
            rows_independent: true,
            preferred_batch_size: batch_rows,
            microseconds_per_batch: vec![(1, 10.0)],
        };
        let metrics = Metrics::default().writer("fake", 1);
        let engine: Box<dyn Engine> = Box::new(fake.clone());
        Served::new(Arc::new(Model { spec, report }), Runs::Here(engine), Depth::new(100), metrics)
    }

    fn request(value: f32) -> Checked {
        let data = bytes::Bytes::copy_from_slice(&value.to_le_bytes());
        let input = Input { dtype: DType::Fp32, shape: vec![1, 1], data: Data::Here(data) };
        Checked { inputs: vec![Some(input)], rows: 1 }
    }

    /// Runs these requests, all come in one turn of the loop; the sizes of the runs.
    fn run(requests: usize, batch_rows: usize) -> Vec<usize> {
        let fake = Fake::new(1);
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default());
        runtime.expect("a loop").block_on(async {
            let served = Rc::new(served(&fake, batch_rows));
            let tasks: Vec<_> = (0..requests)
                .map(|number| {
                    let served = served.clone();
                    spawn_local(async move { served.run(request(number as f32), None, None).await })
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
