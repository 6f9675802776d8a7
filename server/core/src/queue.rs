//! Requests that wait for their batch: bounded on the way in, sorted out on the way to the engine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::regions::Slice;
use crate::tensor::{DType, Tensor};

/// An input of a request.
#[derive(Clone, Debug)]
pub struct Input {
    /// The type of its elements.
    pub dtype: DType,
    /// Its sizes, the batch first where there is one.
    pub shape: Vec<usize>,
    /// `product(shape) * dtype.size()` bytes, or as many strings.
    pub data: Data,
}

/// Where the elements of an input are.
#[derive(Clone, Debug)]
pub enum Data {
    /// In the request.
    Here(Bytes),
    /// In memory that the client shares; read when the batch is gathered.
    Shared(Box<Slice>),
}

impl Data {
    /// In bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len(),
            Self::Shared(slice) => slice.len(),
        }
    }

    /// All of them, wherever they are.
    pub fn bytes(&self) -> Result<Bytes> {
        match self {
            Self::Here(bytes) => Ok(bytes.clone()),
            Self::Shared(slice) => {
                let mut bytes = vec![0; slice.len()];
                slice.read(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }
}

/// A checked request on its way to the engine.
#[derive(Debug)]
pub struct Job {
    /// In the model's order; none where an optional one is left out.
    pub inputs: Vec<Option<Input>>,
    /// At least 1.
    pub rows: usize,
    /// When the answer is of no more use.
    pub deadline: Option<Instant>,
    /// When it has waited for too long.
    pub expiry: Option<Instant>,
    /// When it was checked.
    pub queued: Instant,
    /// Who waits for the answer; closed where nobody does any more.
    pub reply: oneshot::Sender<Result<Answer>>,
}

/// What the engine gave for one request.
#[derive(Debug)]
pub struct Answer {
    /// All outputs of the graph, in its order; this request's rows.
    pub outputs: Vec<Tensor>,
    /// Of this request.
    pub rows: usize,
    /// How long it took.
    pub timings: Timings,
}

/// How long a request took, part by part. All but the queue is of the whole batch.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// From checked to the start of the batch.
    pub queue: Duration,
    /// Gathering the rows.
    pub input: Duration,
    /// Running the network.
    pub infer: Duration,
    /// Splitting the outputs.
    pub output: Duration,
    /// Rows of the batch.
    pub batch_rows: usize,
}

impl Timings {
    /// All that the batch took.
    pub fn compute(&self) -> Duration {
        self.input + self.infer + self.output
    }
}

/// Rows waiting for one model, over all its queues.
#[derive(Debug)]
pub struct Depth {
    rows: AtomicUsize,
    limit: usize,
}

impl Depth {
    /// Room for so many rows.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { rows: AtomicUsize::new(0), limit })
    }

    /// Takes room for these rows, or says how many wait.
    pub fn enter(&self, rows: usize) -> Result<(), usize> {
        let before = self.rows.fetch_add(rows, Relaxed);
        if before + rows > self.limit {
            self.leave(rows);
            return Err(before);
        }
        Ok(())
    }

    /// The rows that wait.
    pub fn rows(&self) -> usize {
        self.rows.load(Relaxed)
    }

    /// The most rows that may wait.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn leave(&self, rows: usize) {
        self.rows.fetch_sub(rows, Relaxed);
    }
}

/// Requests for one model, first in, first out. Whoever pushes has entered the depth.
#[derive(Debug)]
pub struct Queue {
    jobs: VecDeque<Job>,
    depth: Arc<Depth>,
    batch_rows: usize,
}

impl Queue {
    /// An empty one, whose batches grow to at most `batch_rows` rows; a request that is larger
    /// by itself runs alone, as every one does where it is 0.
    pub fn new(depth: Arc<Depth>, batch_rows: usize) -> Self {
        Self { jobs: VecDeque::new(), depth, batch_rows }
    }

    /// Add a request.
    pub fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Moves the next requests to run together into `batch`: whole requests, in order, of the same
    /// shape but for their rows. Cancelled ones are dropped, expired ones answered.
    pub fn next_batch(&mut self, batch: &mut Vec<Job>, now: Instant) {
        let mut rows = 0;
        while let Some(next) = self.jobs.front() {
            let unwanted = unwanted(next, now);
            if unwanted.is_none()
                && let Some(first) = batch.first()
                && (rows + next.rows > self.batch_rows || !same_row_shape(first, next))
            {
                return;
            }
            let Some(job) = self.jobs.pop_front() else {
                return;
            };
            self.depth.leave(job.rows);
            match unwanted {
                None => {
                    rows += job.rows;
                    batch.push(job);
                }
                Some(error) => drop(job.reply.send(Err(error))),
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.jobs.drain(..).for_each(|job| self.depth.leave(job.rows));
    }
}

/// Why a request need not be run, if so.
fn unwanted(job: &Job, now: Instant) -> Option<Error> {
    let is_over = |time: Option<Instant>| time.is_some_and(|time| time <= now);
    if job.reply.is_closed() || is_over(job.deadline) {
        return Some(Error::DeadlineExceeded);
    }
    is_over(job.expiry).then_some(Error::QueueTimeout)
}

fn same_row_shape(a: &Job, b: &Job) -> bool {
    a.inputs.iter().zip(&b.inputs).all(|pair| match pair {
        (Some(a), Some(b)) => a.shape[1..] == b.shape[1..],
        (a, b) => a.is_none() && b.is_none(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Reply = oneshot::Receiver<Result<Answer>>;

    fn job(rows: usize, columns: usize, deadline: Option<Instant>) -> (Job, Reply) {
        let data = Data::Here(vec![0; rows * columns].into());
        let input = Input { dtype: DType::Uint8, shape: vec![rows, columns], data };
        let (reply, answer) = oneshot::channel();
        let (inputs, queued) = (vec![Some(input)], Instant::now());
        (Job { inputs, rows, deadline, expiry: None, queued, reply }, answer)
    }

    /// The rows of each batch that these jobs form, in order.
    fn batches(jobs: Vec<Job>, batch_rows: usize) -> Vec<Vec<usize>> {
        let depth = Depth::new(1_000_000);
        let mut queue = Queue::new(depth.clone(), batch_rows);
        for job in jobs {
            depth.enter(job.rows).expect("room");
            queue.push(job);
        }
        let mut batches = Vec::new();
        while !queue.is_empty() {
            let mut batch = Vec::new();
            queue.next_batch(&mut batch, Instant::now());
            batches.push(batch.iter().map(|job| job.rows).collect());
        }
        assert_eq!(depth.rows(), 0, "all room is given back");
        batches
    }

    fn of_rows(rows: &[usize]) -> (Vec<Job>, Vec<Reply>) {
        rows.iter().map(|rows| job(*rows, 3, None)).unzip()
    }

    #[test]
    fn a_batch_grows_by_whole_requests_up_to_its_size() {
        let (jobs, _replies) = of_rows(&[3, 3, 2, 1, 8]);
        assert_eq!(batches(jobs, 8), [vec![3, 3, 2], vec![1], vec![8]]);
    }

    #[test]
    fn a_request_over_the_size_runs_alone() {
        let (jobs, _replies) = of_rows(&[1, 20, 1]);
        assert_eq!(batches(jobs, 8), [vec![1], vec![20], vec![1]]);
    }

    #[test]
    fn every_request_runs_alone_where_rows_depend_on_each_other() {
        let (jobs, _replies) = of_rows(&[1, 1, 1]);
        assert_eq!(batches(jobs, 0), [[1], [1], [1]]);
    }

    #[test]
    fn rows_of_different_shapes_share_no_batch() {
        let (jobs, _replies): (Vec<_>, Vec<_>) =
            [2, 2, 5, 2].map(|columns| job(1, columns, None)).into_iter().unzip();
        assert_eq!(batches(jobs, 8), [vec![1, 1], vec![1], vec![1]]);
    }

    #[test]
    fn an_expired_request_is_answered_and_not_run() {
        let (expired, mut reply) = job(4, 3, Some(Instant::now()));
        let (live, _reply) = job(2, 3, Some(Instant::now() + Duration::from_secs(60)));
        assert_eq!(batches(vec![expired, live], 8), [[2]]);
        assert_eq!(reply.try_recv().expect("answered").err(), Some(Error::DeadlineExceeded));
    }

    #[test]
    fn a_request_that_has_waited_too_long_is_answered_and_not_run() {
        let (mut expired, mut reply) = job(4, 3, None);
        expired.expiry = Some(Instant::now());
        let (live, _reply) = job(2, 3, None);
        assert_eq!(batches(vec![expired, live], 8), [[2]]);
        assert_eq!(reply.try_recv().expect("answered").err(), Some(Error::QueueTimeout));
    }

    #[test]
    fn requests_with_and_without_an_optional_input_share_no_batch() {
        let (mut without, _first) = job(1, 3, None);
        without.inputs[0] = None;
        let (with, _second) = job(1, 3, None);
        assert_eq!(batches(vec![without, with], 8), [[1], [1]]);
    }

    #[test]
    fn a_request_that_nobody_waits_for_is_not_run() {
        let (abandoned, reply) = job(4, 3, None);
        drop(reply);
        let (live, _reply) = job(2, 3, None);
        assert_eq!(batches(vec![abandoned, live], 8), [[2]]);
    }

    #[test]
    fn the_depth_refuses_what_is_over_its_limit_and_says_how_much_waits() {
        let depth = Depth::new(10);
        assert_eq!(depth.enter(7), Ok(()));
        assert_eq!(depth.enter(4), Err(7));
        assert_eq!(depth.enter(3), Ok(()));
        assert_eq!(depth.rows(), 10);
    }
}
