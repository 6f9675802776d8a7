//! The queue of requests that wait for their batch. Requests that need no run are answered here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::model::{Batching, QueuePolicy};
use crate::scheduler::estimate::Estimate;
use crate::scheduler::limits::QueueLimits;
use crate::scheduler::request::Request;

/// The requests in the order in which they run: by priority, then as they came.
#[derive(Debug)]
pub struct Queue {
    priorities: Vec<Priority>,
    rows: usize,
    queue_limits: Arc<QueueLimits>,
    /// The most rows of a batch; a request that has more runs alone. 0: every request runs alone.
    batch_rows: usize,
    max_delay: Duration,
    preferred_sizes: Vec<usize>,
}

#[derive(Debug)]
struct Priority {
    requests: VecDeque<Request>,
    /// Requests that have waited for too long, and are run when nothing else of this priority
    /// waits.
    late: VecDeque<Request>,
    late_is_delayed: bool,
}

impl Queue {
    /// An empty queue.
    pub fn new(queue_limits: Arc<QueueLimits>, batch_rows: usize, batching: &Batching) -> Self {
        let priority = |policy: &QueuePolicy| Priority {
            requests: VecDeque::new(),
            late: VecDeque::new(),
            late_is_delayed: policy.late_is_delayed,
        };
        Self {
            priorities: batching.priorities.iter().map(priority).collect(),
            rows: 0,
            queue_limits,
            batch_rows,
            max_delay: batching.max_delay,
            preferred_sizes: batching.preferred_sizes.clone(),
        }
    }

    /// Adds a request for which the limits have room.
    pub fn push(&mut self, request: Request) {
        self.rows += request.size.rows;
        self.priorities[request.size.priority].requests.push_back(request);
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Moves the next batch into `batch`, which is empty. Requests whose callers wait no more, or
    /// that could not be answered in time, are answered here and not run. The returned time is when
    /// the requests that are held back for others are to be run; none where none are held back.
    pub fn next_batch(&mut self, batch: &mut Vec<Request>, now: Instant) -> Option<Instant> {
        if let Some(until) = self.waits_until(now) {
            return Some(until);
        }
        let most = self.size();
        let mut rows = 0;
        while let Some((priority, is_late)) = self.first() {
            let Priority { requests, late, late_is_delayed } = &mut self.priorities[priority];
            let from = if is_late { &mut *late } else { &mut *requests };
            let next = from.front()?;
            let unwanted = unwanted(next, now, &self.queue_limits.estimate);
            if unwanted == Some(Error::QueueTimeout) && (*late_is_delayed || is_late) {
                if !is_late {
                    late.extend(requests.pop_front());
                    continue;
                }
            } else if let Some(error) = unwanted {
                let request = from.pop_front()?;
                self.rows -= request.size.rows;
                self.queue_limits.leave(request.size);
                drop(request.reply.send(Err(error)));
                continue;
            }
            if let Some(first) = batch.first()
                && (rows + next.size.rows > most || !same_row_shape(first, next))
            {
                break;
            }
            let request = from.pop_front()?;
            rows += request.size.rows;
            self.rows -= request.size.rows;
            self.queue_limits.leave(request.size);
            batch.push(request);
        }
        None
    }

    /// Answers every request that waits with an error.
    pub fn refuse_all(&mut self, error: &Error) {
        for request in self.take_all() {
            let _ = request.reply.send(Err(error.clone()));
        }
    }

    /// Takes every request that waits out of the queue, and gives its room back.
    fn take_all(&mut self) -> Vec<Request> {
        self.rows = 0;
        let both =
            |each: &mut Priority| each.requests.drain(..).chain(each.late.drain(..)).collect();
        let requests: Vec<Request> =
            self.priorities.iter_mut().flat_map::<Vec<_>, _>(both).collect();
        requests.iter().for_each(|request| self.queue_limits.leave(request.size));
        requests
    }

    /// The place of the request that runs next: the index of its priority, and whether it is late.
    fn first(&self) -> Option<(usize, bool)> {
        self.priorities.iter().enumerate().find_map(|(index, priority)| {
            match (priority.requests.is_empty(), priority.late.is_empty()) {
                (false, _) => Some((index, false)),
                (true, false) => Some((index, true)),
                (true, true) => None,
            }
        })
    }

    /// The most rows of the next batch: the largest preferred size for which enough rows wait.
    fn size(&self) -> usize {
        let reached = self.preferred_sizes.iter().rfind(|size| **size <= self.rows);
        reached.copied().unwrap_or(self.batch_rows).min(self.batch_rows)
    }

    /// The time until which waiting requests are held back for others to join: until the first has
    /// waited for the longest delay, and no longer than lets each be answered in time. None where a
    /// batch is to run now.
    fn waits_until(&self, now: Instant) -> Option<Instant> {
        let enough = self.preferred_sizes.first().copied().unwrap_or(self.batch_rows);
        if self.max_delay.is_zero() || self.rows == 0 || self.rows >= enough {
            return None;
        }
        let run = self.queue_limits.estimate.run(enough);
        let latest = |request: &Request| {
            // A fifth of the request's time is kept for the answer's way to the client.
            let answered = request.deadline.map(|time| {
                request.queued
                    + (time.saturating_duration_since(request.queued) * 4 / 5).saturating_sub(run)
            });
            let times = [Some(request.queued + self.max_delay), answered, request.expiry];
            times.into_iter().flatten().min()
        };
        let waiting =
            self.priorities.iter().flat_map(|each| each.requests.iter().chain(&each.late));
        waiting.filter_map(latest).min().filter(|until| *until > now)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.take_all();
    }
}

/// The error of a request that need not be run; none where it is to run.
fn unwanted(request: &Request, now: Instant, estimate: &Estimate) -> Option<Error> {
    let is_too_late = |deadline| deadline <= now + estimate.run(request.size.rows);
    if request.reply.is_closed() || request.deadline.is_some_and(is_too_late) {
        return Some(Error::DeadlineExceeded);
    }
    request.expiry.is_some_and(|time| time <= now).then_some(Error::QueueTimeout)
}

fn same_row_shape(a: &Request, b: &Request) -> bool {
    a.inputs.iter().zip(&b.inputs).all(|pair| match pair {
        (Some(a), Some(b)) => a.shape[1..] == b.shape[1..],
        (a, b) => a.is_none() && b.is_none(),
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::error::Result;
    use crate::scheduler::limits::Size;
    use crate::scheduler::request::{Data, Input, Prediction};
    use crate::tensor::DType;

    type Reply = oneshot::Receiver<Result<Prediction>>;

    fn request(rows: usize, columns: usize, deadline: Option<Instant>) -> (Request, Reply) {
        let data = Data::Here(vec![0; rows * columns].into());
        let input = Input { dtype: DType::Uint8, shape: vec![rows, columns], data };
        let (reply, answer) = oneshot::channel();
        let (inputs, queued) = (vec![Some(input)], Instant::now());
        let size = Size { rows, bytes: rows * columns, priority: 0 };
        (
            Request { inputs, size, deadline, expiry: None, outputs: usize::MAX, queued, reply },
            answer,
        )
    }

    fn queue(requests: Vec<Request>, batch_rows: usize, batching: &Batching) -> Queue {
        let queue_limits = QueueLimits::new(1_000_000, 1_000_000, batching, Estimate::unknown());
        let mut queue = Queue::new(queue_limits.clone(), batch_rows, batching);
        for request in requests {
            queue_limits.enter(request.size).expect("room");
            queue.push(request);
        }
        queue
    }

    /// The rows of each batch that these requests form, in order.
    fn batches(requests: Vec<Request>, batch_rows: usize) -> Vec<Vec<usize>> {
        batches_of(requests, batch_rows, &Batching::default())
    }

    fn batches_of(
        requests: Vec<Request>,
        batch_rows: usize,
        batching: &Batching,
    ) -> Vec<Vec<usize>> {
        let mut queue = queue(requests, batch_rows, batching);
        let mut batches = Vec::new();
        while !queue.is_empty() {
            let mut batch = Vec::new();
            assert_eq!(queue.next_batch(&mut batch, Instant::now()), None);
            batches.push(batch.iter().map(|request| request.size.rows).collect());
        }
        assert_eq!(queue.queue_limits.rows(), 0, "all room is given back");
        batches
    }

    fn of_rows(rows: &[usize]) -> (Vec<Request>, Vec<Reply>) {
        rows.iter().map(|rows| request(*rows, 3, None)).unzip()
    }

    #[test]
    fn a_batch_grows_by_whole_requests_up_to_its_size() {
        let (requests, _replies) = of_rows(&[3, 3, 2, 1, 8]);
        assert_eq!(batches(requests, 8), [vec![3, 3, 2], vec![1], vec![8]]);
    }

    #[test]
    fn a_request_over_the_size_runs_alone() {
        let (requests, _replies) = of_rows(&[1, 20, 1]);
        assert_eq!(batches(requests, 8), [vec![1], vec![20], vec![1]]);
    }

    #[test]
    fn every_request_runs_alone_where_rows_depend_on_each_other() {
        let (requests, _replies) = of_rows(&[1, 1, 1]);
        assert_eq!(batches(requests, 0), [[1], [1], [1]]);
    }

    #[test]
    fn rows_of_different_shapes_share_no_batch() {
        let (requests, _replies): (Vec<_>, Vec<_>) =
            [2, 2, 5, 2].map(|columns| request(1, columns, None)).into_iter().unzip();
        assert_eq!(batches(requests, 8), [vec![1, 1], vec![1], vec![1]]);
    }

    #[test]
    fn an_expired_request_is_answered_and_not_run() {
        let (expired, mut reply) = request(4, 3, Some(Instant::now()));
        let (live, _reply) = request(2, 3, Some(Instant::now() + Duration::from_secs(60)));
        assert_eq!(batches(vec![expired, live], 8), [[2]]);
        assert_eq!(reply.try_recv().expect("answered").err(), Some(Error::DeadlineExceeded));
    }

    #[test]
    fn a_request_that_has_waited_too_long_is_answered_and_not_run() {
        let (mut expired, mut reply) = request(4, 3, None);
        expired.expiry = Some(Instant::now());
        let (live, _reply) = request(2, 3, None);
        assert_eq!(batches(vec![expired, live], 8), [[2]]);
        assert_eq!(reply.try_recv().expect("answered").err(), Some(Error::QueueTimeout));
    }

    #[test]
    fn requests_with_and_without_an_optional_input_share_no_batch() {
        let (mut without, _first) = request(1, 3, None);
        without.inputs[0] = None;
        let (with, _second) = request(1, 3, None);
        assert_eq!(batches(vec![without, with], 8), [[1], [1]]);
    }

    #[test]
    fn a_request_that_nobody_waits_for_is_not_run() {
        let (abandoned, reply) = request(4, 3, None);
        drop(reply);
        let (live, _reply) = request(2, 3, None);
        assert_eq!(batches(vec![abandoned, live], 8), [[2]]);
    }

    #[test]
    fn a_higher_priority_runs_first_and_batches_mix_priorities() {
        let batching =
            Batching { priorities: vec![QueuePolicy::default(); 3], ..Default::default() };
        let (mut requests, _replies) = of_rows(&[1, 2, 3, 4]);
        for (request, priority) in requests.iter_mut().zip([2, 1, 0, 2]) {
            request.size.priority = priority;
        }
        assert_eq!(batches_of(requests, 5, &batching), [vec![3, 2], vec![1, 4]]);
    }

    #[test]
    fn what_is_late_is_delayed_behind_its_priority_where_the_policy_says_so() {
        let policy = QueuePolicy { late_is_delayed: true, ..Default::default() };
        let batching = Batching { priorities: vec![policy; 2], ..Default::default() };
        let (mut requests, _replies) = of_rows(&[1, 2, 3, 4]);
        requests[0].expiry = Some(Instant::now());
        requests[3].size.priority = 1;
        assert_eq!(batches_of(requests, 1, &batching), [[2], [3], [1], [4]]);
    }

    #[test]
    fn a_batch_waits_for_more_until_it_is_full_or_the_first_has_waited_long_enough() {
        let delay = Duration::from_secs(60);
        let batching = Batching { max_delay: delay, ..Default::default() };
        let (requests, _replies) = of_rows(&[1, 2]);
        let first = requests[0].queued;
        let mut queue = queue(requests, 8, &batching);
        let mut batch = Vec::new();
        assert_eq!(queue.next_batch(&mut batch, first), Some(first + delay));
        assert!(batch.is_empty());
        assert_eq!(queue.next_batch(&mut batch, first + delay), None);
        assert_eq!(batch.len(), 2);
        let (requests, _replies) = of_rows(&[5, 3, 1]);
        let mut queue = super::tests::queue(requests, 8, &batching);
        batch.clear();
        assert_eq!(queue.next_batch(&mut batch, first), None, "it is full");
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn no_batch_waits_beyond_the_tightest_deadline_in_it() {
        let batching = Batching { max_delay: Duration::from_secs(60), ..Default::default() };
        let (mut requests, _replies) = of_rows(&[1, 2, 1]);
        let now = requests[0].queued;
        requests[1].deadline = Some(requests[1].queued + Duration::from_secs(5));
        requests[2].expiry = Some(now + Duration::from_secs(10));
        let last = requests[1].queued + Duration::from_secs(4);
        let mut queue = queue(requests, 8, &batching);
        assert_eq!(queue.next_batch(&mut Vec::new(), now), Some(last));
    }

    #[test]
    fn batches_are_of_a_preferred_size_where_enough_rows_wait() {
        let batching = Batching { preferred_sizes: vec![4, 8], ..Default::default() };
        let sizes = |requests: usize| {
            let (requests, _replies) = of_rows(&vec![1; requests]);
            batches_of(requests, 8, &batching).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(3), [3]);
        assert_eq!(sizes(5), [4, 1]);
        assert_eq!(sizes(21), [8, 8, 4, 1]);
        let patient = Batching { max_delay: Duration::from_secs(60), ..batching };
        let (requests, _replies) = of_rows(&[1; 5]);
        let mut queue = queue(requests, 8, &patient);
        let mut batch = Vec::new();
        assert_eq!(queue.next_batch(&mut batch, Instant::now()), None);
        assert_eq!(batch.len(), 4);
        assert!(queue.next_batch(&mut Vec::new(), Instant::now()).is_some(), "one is not enough");
    }
}
