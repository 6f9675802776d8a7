//! The handle by which other threads speak to a shard.

use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc as blocking;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use crate::error::{Error, Result};
use crate::lifecycle::Counted;
use crate::model::Model;
use crate::scheduler::limits::QueueLimits;
use crate::scheduler::served_model::Backend;
use crate::shard::connections::Open;
use crate::shard::socket::Socket;

/// The handle by which other threads speak to a shard, which runs the service `S`.
pub struct Handle<S> {
    commands: mpsc::UnboundedSender<Command<S>>,
    connections: Arc<AtomicUsize>,
    pending: Arc<AtomicUsize>,
    /// Whether the shard has done all that it was given before it was last asked to turn.
    turned: Arc<AtomicBool>,
    stuck: Arc<AtomicBool>,
}

/// A command to a shard.
pub enum Command<S> {
    /// Serve a connection.
    Connect(Socket, Open, Counted),
    /// Serve a model.
    Install(Install),
    /// Stop serving a version of a model.
    Remove(Remove),
    /// Do some work with the service.
    Work(Box<dyn FnOnce(Rc<S>) + Send>),
}

/// A model to serve from now on.
#[derive(Debug)]
pub struct Install {
    /// The model.
    pub model: Arc<Model>,
    /// The backend on which this shard runs the model.
    pub backend: Backend,
    /// The limits of what waits for the model, over all its queues.
    pub queue_limits: Arc<QueueLimits>,
    /// The sender that is dropped when the shard serves the model; nothing is ever sent.
    pub done: blocking::Sender<Infallible>,
}

/// A version of a model that is served no more.
#[derive(Debug)]
pub struct Remove {
    /// The model's name.
    pub name: String,
    /// The version to remove.
    pub version: u64,
    /// The sender that is dropped when the shard takes no more requests for the version; nothing is
    /// ever sent.
    pub done: blocking::Sender<Infallible>,
}

impl<S> Handle<S> {
    /// A handle, and the inbox in which its commands arrive.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Command<S>>) {
        let (commands, inbox) = mpsc::unbounded_channel();
        let handle = Self {
            commands,
            connections: Arc::default(),
            pending: Arc::default(),
            turned: Arc::new(AtomicBool::new(true)),
            stuck: Arc::default(),
        };
        (handle, inbox)
    }

    /// The number of connections that the shard was given and that are not closed yet.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// The number of requests that the shard has accepted and not answered yet.
    pub fn pending(&self) -> usize {
        self.pending.load(Relaxed)
    }

    /// Counts a request as accepted, until the result is dropped.
    pub fn accept(&self) -> Counted {
        Counted::new(&self.pending)
    }

    /// Asks the shard to show that it turns.
    pub fn turn(&self) {
        self.turned.store(false, Relaxed);
        let turned = self.turned.clone();
        let work = move |_| turned.store(true, Relaxed);
        let _ = self.commands.send(Command::Work(Box::new(work)));
    }

    /// Whether the shard has turned since it was last asked to.
    pub fn has_turned(&self) -> bool {
        self.turned.load(Relaxed)
    }

    /// Notes whether the shard is one that does not turn; returns what was noted before.
    pub fn set_stuck(&self, stuck: bool) -> bool {
        self.stuck.swap(stuck, Relaxed)
    }

    /// Whether the shard is one that does not turn.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed)
    }

    /// Gives the shard a connection.
    pub fn connect(&self, socket: Socket, open: Open) {
        let counted = Counted::new(&self.connections);
        let _ = self.commands.send(Command::Connect(socket, open, counted));
    }

    /// Has the shard serve a model.
    pub fn install(&self, install: Install) {
        let _ = self.commands.send(Command::Install(install));
    }

    /// Has the shard stop serving a version of a model.
    pub fn remove(&self, remove: Remove) {
        let _ = self.commands.send(Command::Remove(remove));
    }
}

impl<S: 'static> Handle<S> {
    /// Has the shard do some work on its own thread. The work is given up when nobody waits for its
    /// result any more.
    pub async fn run<T, F>(&self, work: impl FnOnce(Rc<S>) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (mut reply, answer) = oneshot::channel();
        let work = |service| {
            spawn_local(async move {
                tokio::select! {
                    result = work(service) => drop(reply.send(result)),
                    () = reply.closed() => {}
                }
            });
        };
        let _ = self.commands.send(Command::Work(Box::new(work)));
        answer.await.map_err(|_| Error::Internal)
    }
}

/// The shard with the fewest connections, among those that turn where there is one; none where there
/// are no shards.
pub fn fewest<S>(shards: &[Handle<S>]) -> Option<&Handle<S>> {
    shards.iter().min_by_key(|shard| (shard.is_stuck(), shard.connections()))
}

// The implementations are written out because derived ones would ask the same of `S`.
impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            connections: self.connections.clone(),
            pending: self.pending.clone(),
            turned: self.turned.clone(),
            stuck: self.stuck.clone(),
        }
    }
}

impl<S> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Handle");
        shown.field("connections", &self.connections).field("pending", &self.pending);
        shown.finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Command<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(..) => "Connect",
            Self::Install(_) => "Install",
            Self::Remove(_) => "Remove",
            Self::Work(_) => "Work",
        })
    }
}
