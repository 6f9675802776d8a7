//! The calls of one connection, run by the connection's own task.
//!
//! A task of its own for each call, as hyper's executors usually make, costs an aligned allocation
//! and a turn of the scheduler; a unary call is too short for that.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

/// Where hyper puts a connection's calls.
#[derive(Clone, Default)]
pub struct Calls(Rc<RefCell<Vec<LocalBoxFuture<'static, ()>>>>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Calls {
    fn execute(&self, call: F) {
        self.0.borrow_mut().push(Box::pin(call));
    }
}

impl Calls {
    /// Runs a connection and its calls to the connection's end.
    pub async fn run<R>(self, connection: impl Future<Output = R>) -> R {
        let mut connection = pin!(connection);
        let mut running = FuturesUnordered::new();
        poll_fn(|context| {
            loop {
                if let Poll::Ready(result) = connection.as_mut().poll(context) {
                    return Poll::Ready(result);
                }
                running.extend(self.0.borrow_mut().drain(..));
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
