//! A model as one shard serves it: takes checked requests, and runs those of a turn as one batch.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::{spawn_local, yield_now};

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
    Turn(Rc<Turn>),
    Lanes(Arc<Lanes>),
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
                spawn_local(batches(turn.clone(), runner));
                Way::Turn(turn)
            }
        };
        Self { model, metrics, depth, way }
    }

    /// Queues a request; its answer comes when its batch has run.
    pub async fn run(&self, request: Checked, deadline: Option<Instant>) -> Result<Answer> {
        let queued = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= queued) {
            return Err(Error::DeadlineExceeded);
        }
        let Checked { inputs, rows } = request;
        self.depth.enter(rows).map_err(|waiting| self.queue_full(waiting))?;
        let (reply, answer) = oneshot::channel();
        let job = Job { inputs, rows, deadline, queued, reply };
        match &self.way {
            Way::Lanes(lanes) => lanes.push(job),
            Way::Turn(turn) => {
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
