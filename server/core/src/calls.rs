//! The calls of one connection, run by the connection's own task.
//!
//! A task of its own for each call, as hyper's executors usually make, costs an aligned allocation
//! and a turn of the scheduler; a unary call is too short for that.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::{JoinHandle, spawn_local, yield_now};

/// Calls that a connection begins in one turn of the loop. The answers of those leave while the
/// next are worked on: else a client with one connection and the server would wait for each other
/// in turn.
const A_TURN: usize = 24;

/// Where hyper puts a connection's calls.
#[derive(Clone, Default)]
pub struct Calls(Rc<RefCell<VecDeque<LocalBoxFuture<'static, ()>>>>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Calls {
    fn execute(&self, call: F) {
        self.0.borrow_mut().push_back(Box::pin(call));
    }
}

impl Calls {
    /// Runs a connection and its calls to the connection's end.
    pub async fn run<R>(self, connection: impl Future<Output = R>) -> R {
        let mut connection = pin!(connection);
        let mut running = FuturesUnordered::new();
        let mut next_turn: Option<JoinHandle<()>> = None;
        poll_fn(|context| {
            if next_turn.as_mut().is_some_and(|turn| turn.poll_unpin(context).is_ready()) {
                next_turn = None;
            }
            let mut room = if next_turn.is_none() { A_TURN } else { 0 };
            loop {
                if let Poll::Ready(result) = connection.as_mut().poll(context) {
                    return Poll::Ready(result);
                }
                let mut waiting = self.0.borrow_mut();
                let begun = waiting.len().min(room);
                room -= begun;
                running.extend(waiting.drain(..begun));
                if !waiting.is_empty() && next_turn.is_none() {
                    // In a task, because this one is woken for other reasons, too.
                    let turn = next_turn.insert(spawn_local(yield_now()));
                    let _ = turn.poll_unpin(context);
                }
                drop(waiting);
                let mut ended = false;
                while let Poll::Ready(Some(())) = running.poll_next_unpin(context) {
                    ended = true;
                }
                if !ended {
                    return Poll::Pending;
                }
                // The connection writes at once what the calls have answered.
            }
        })
        .await
    }
}
