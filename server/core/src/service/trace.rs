//! The trace of a request: facts noted on its way, for the counters.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Instant;

use crate::metrics::model::Ran;
use crate::metrics::outcome::Outcome;
use crate::scheduler::request::Prediction;
use crate::scheduler::served_model::ServedModel;
use crate::shard::Shard;

/// The facts of one request that are noted on its way: its model, and its run in the network.
#[derive(Debug, Default)]
pub struct Trace {
    served: OnceCell<Rc<ServedModel>>,
    ran: Cell<Option<Ran>>,
}

impl Trace {
    /// Notes which model the request is for.
    pub fn found(&self, served: &Rc<ServedModel>) {
        let _ = self.served.set(served.clone());
    }

    /// Notes that the network has answered the request.
    pub fn ran(&self, answer: &Prediction) {
        self.ran.set(Some(Ran::new(answer.rows, &answer.timings)));
    }

    /// Counts the request, which has ended: with its model, or with the requests whose model was
    /// not found.
    pub fn count(&self, shard: &Shard, outcome: Outcome, arrived: Instant) {
        let served = self.served.get().map(|served| &served.metrics);
        let metrics = served.unwrap_or(&shard.models.unknown);
        let now = Instant::now();
        metrics.request(outcome, now.duration_since(arrived), self.ran.get());
        shard.busy_poll.answered(now);
    }
}
