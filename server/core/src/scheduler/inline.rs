//! Batches in a shard's loop, for light models: the requests of one turn of the loop run together.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local, yield_now};
use tokio::time::timeout_at;

use crate::engine::Engine;
use crate::scheduler::batch::Runner;
use crate::scheduler::queue::Queue;
use crate::scheduler::request::Request;

/// The requests that wait for the next turn of the loop.
#[derive(Debug)]
pub struct InlineQueue {
    queue: RefCell<Queue>,
    /// Notified of every request that is queued.
    filled: Notify,
}

impl InlineQueue {
    /// Starts the task that runs pushed requests on `engine`, until the handle aborts it.
    pub fn start(queue: Queue, engine: Box<dyn Engine>, runner: Runner) -> (Rc<Self>, AbortHandle) {
        let inline = Rc::new(Self { queue: RefCell::new(queue), filled: Notify::new() });
        let batches = spawn_local(run_batches(inline.clone(), engine, runner));
        (inline, batches.abort_handle())
    }

    /// Adds a request for which the limits have room.
    pub fn push(&self, request: Request) {
        self.queue.borrow_mut().push(request);
        self.filled.notify_one();
    }
}

/// Time for which one turn begins further batches: answers that leave together wake their client
/// once.
const TURN: Duration = Duration::from_micros(200);

/// Runs the requests that wait, a turn of the loop at a time.
async fn run_batches(inline: Rc<InlineQueue>, mut engine: Box<dyn Engine>, mut runner: Runner) {
    let mut batch = Vec::new();
    loop {
        inline.filled.notified().await;
        while !inline.queue.borrow().is_empty() {
            // The loop turns once: every request that the sockets have delivered joins, and the
            // answers of the batch before leave.
            yield_now().await;
            let begun = Instant::now();
            let until = loop {
                let until = inline.queue.borrow_mut().next_batch(&mut batch, Instant::now());
                if batch.is_empty() {
                    break until;
                }
                // An error would end an engine's use. The CPU is never lost, though, and a panic
                // has left its engine as it was.
                let _ = runner.run(&mut *engine, &mut batch);
                if begun.elapsed() > TURN {
                    break None;
                }
            };
            if let Some(until) = until {
                let _ = timeout_at(until.into(), inline.filled.notified()).await;
            }
        }
    }
}
