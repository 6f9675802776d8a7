//! The control of models: orders of clients, which the control plane carries out.

use std::collections::BTreeMap;
use std::sync::mpsc as blocking;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::error::{Error, Result};

/// The action that a client orders.
#[derive(Debug)]
pub enum Action {
    /// The model is to be served as it is in its repository, or as the request has it.
    Load {
        /// The configuration in JSON, which replaces the repository's; none: the repository's.
        config: Option<String>,
        /// The files by their paths in the model's folder, which replace the repository's; empty:
        /// the repository's.
        files: BTreeMap<String, Bytes>,
    },
    /// The model is to be served no more.
    Unload,
    /// Every model in the repositories is to be named.
    Index,
}

/// An order, which is answered with its outcome.
#[derive(Debug)]
pub struct Order {
    /// The model's name; empty for an index.
    pub model: String,
    /// The action that is ordered.
    pub action: Action,
    outcome: oneshot::Sender<Result<Vec<String>>>,
}

impl Order {
    /// Answers that the order is carried out; `names` are the models of an index.
    pub fn done(self, names: Vec<String>) {
        let _ = self.outcome.send(Ok(names));
    }

    /// Answers that the repositories have no such model, or that the request's configuration is
    /// none.
    pub fn not_found(self, reason: String) {
        let error = Error::NotInRepository { model: self.model, reason };
        let _ = self.outcome.send(Err(error));
    }

    /// Answers that the order was tried in vain.
    pub fn failed(self, reason: String) {
        let _ = self.outcome.send(Err(Error::LoadFailed { model: self.model, reason }));
    }
}

/// The inbox of clients' orders.
#[derive(Debug)]
pub struct ModelControl {
    inbox: blocking::Sender<Option<Order>>,
    ended: watch::Sender<bool>,
    /// Whether a request may bring the model's files.
    pub allow_upload: bool,
}

impl ModelControl {
    /// A control, and the receiver that its orders are taken from; none in it means the end.
    pub fn new(allow_upload: bool) -> (Self, blocking::Receiver<Option<Order>>) {
        let (inbox, orders) = blocking::channel();
        (Self { inbox, ended: watch::Sender::new(false), allow_upload }, orders)
    }

    /// Gives an order, and waits for its outcome. The end of the server does not wait for it: the
    /// order is then answered with `Error::Draining`.
    pub async fn give(&self, model: String, action: Action) -> Result<Vec<String>> {
        let (outcome, result) = oneshot::channel();
        let _ = self.inbox.send(Some(Order { model, action, outcome }));
        let mut ended = self.ended.subscribe();
        tokio::select! {
            biased;
            result = result => result.unwrap_or(Err(Error::Draining)),
            _ = ended.wait_for(|ended| *ended) => Err(Error::Draining),
        }
    }

    /// Ends the control: orders are carried out no more.
    pub fn end(&self) {
        let _ = self.inbox.send(None);
        self.ended.send_replace(true);
    }
}
