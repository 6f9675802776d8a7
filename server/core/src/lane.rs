//! Lanes: OS threads that own an engine each, for models too heavy to run in a shard's loop.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::batch::Runner;
use crate::queue::{Job, Queue};

/// The lanes of one model, and the queue they all take from.
#[derive(Debug)]
pub struct Lanes {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    closed: bool,
}

impl Lanes {
    /// One lane for each runner.
    pub fn start(queue: Queue, runners: Vec<Runner>, name: &str) -> io::Result<Arc<Self>> {
        let state = Mutex::new(State { queue, closed: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let lanes = Arc::new(Self { shared, threads: Mutex::default() });
        for (number, runner) in runners.into_iter().enumerate() {
            let shared = lanes.shared.clone();
            let thread = thread::Builder::new()
                .name(format!("lane-{name}-{number}"))
                .spawn(move || shared.work(runner))?;
            lanes.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(lanes)
    }

    /// Add a request.
    pub fn push(&self, job: Job) {
        self.shared.lock().queue.push(job);
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// A batch is formed when the lane is free, not before: what arrives during a run joins the
    /// next.
    fn work(&self, mut runner: Runner) {
        let mut batch = Vec::new();
        let mut state = self.lock();
        while !state.closed {
            let now = Instant::now();
            let until = state.queue.next_batch(&mut batch, now);
            if !batch.is_empty() {
                drop(state);
                runner.run(&mut batch);
                state = self.lock();
            } else if let Some(until) = until {
                let waited = self.changed.wait_timeout(state, until - now);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lanes {
    /// Ends the threads; each finishes the batch it runs.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
    }
}
