//! What clients order the control plane to do with models.

use std::collections::BTreeMap;
use std::sync::mpsc as blocking;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::error::{Error, Result};

/// What to do with a model.
#[derive(Debug)]
pub enum Action {
    /// Serve it as it is in its repository, or as the request has it.
    Load {
        /// Replaces the repository's, in JSON.
        config: Option<String>,
        /// Replace the repository's: by path within the model's folder.
        files: BTreeMap<String, Bytes>,
    },
    /// Serve it no more.
    Unload,
    /// Name every model in the repositories.
    Index,
}

/// An order and where its outcome goes.
#[derive(Debug)]
pub struct Order {
    /// The model's name; empty for an index.
    pub model: String,
    /// What to do.
    pub action: Action,
    outcome: oneshot::Sender<Result<Vec<String>>>,
}

impl Order {
    /// Says that the order is carried out; `names` are an index's.
    pub fn done(self, names: Vec<String>) {
        let _ = self.outcome.send(Ok(names));
    }

    /// The repositories have no such model, or the request's own configuration is none.
    pub fn not_found(self, reason: String) {
        let error = Error::NotInRepository { model: self.model, reason };
        let _ = self.outcome.send(Err(error));
    }

    /// Says that the order was tried in vain.
    pub fn failed(self, reason: String) {
        let _ = self.outcome.send(Err(Error::LoadFailed { model: self.model, reason }));
    }
}

/// Where clients' orders about models go.
#[derive(Debug)]
pub struct ModelControl {
    inbox: blocking::Sender<Option<Order>>,
    ended: watch::Sender<bool>,
    /// Models may come with a request.
    pub allow_upload: bool,
}

impl ModelControl {
    /// Orders, and where they are taken from.
    pub fn new(allow_upload: bool) -> (Self, blocking::Receiver<Option<Order>>) {
        let (inbox, orders) = blocking::channel();
        (Self { inbox, ended: watch::Sender::new(false), allow_upload }, orders)
    }

    /// Has an order carried out. The end of the server does not wait for it.
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

    /// No more will be carried out.
    pub fn end(&self) {
        let _ = self.inbox.send(None);
        self.ended.send_replace(true);
    }
}
