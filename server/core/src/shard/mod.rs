//! Shards: one thread each, with an event loop, connections and a models table of its own.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinSet, spawn_local};
use tonic::service::Routes;
use tower_service::Service;

use crate::error::{Dialect, Error, Result};
use crate::grpc::body::RequestBody;
use crate::grpc::budget::{Account, Held, Memory};
use crate::grpc::incoming::Incoming;
use crate::grpc::message::Content;
use crate::grpc::reply::{Reply, ReplyBody};
use crate::grpc::{self, Call, Refused};
use crate::metrics::{Metrics, ModelMetrics, Outcome, Ran};
use crate::model::Model;
use crate::model::catalog::{Catalog, parse_version};
use crate::model::control::Orders;
use crate::scheduler::batch::panic_text;
use crate::scheduler::give_way::give_way;
use crate::scheduler::limits::Depth;
use crate::scheduler::request::Answer;
use crate::scheduler::served_model::{Runs, Served};
use crate::service;
use crate::service::classifier::classify;
use crate::service::inference::infer;
use crate::shard::busy_poll::BusyPoll;
use crate::shard::connections::{Connections, Open};
use crate::shard::socket::Socket;
use crate::shared_memory::Regions;

pub mod authority;
pub mod busy_poll;
pub mod calls;
pub mod connection;
pub mod connections;
pub mod socket;

/// What a call holds besides its metadata and its messages, about.
const CALL_BYTES: usize = 4096;

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    /// Which models there are.
    pub catalog: Catalog,
    /// What was counted.
    pub metrics: Metrics,
    /// The open connections.
    pub connections: Arc<Connections>,
    /// The longest that a client may take to begin to speak HTTP/2.
    pub handshake_time: Duration,
    /// The most metadata of a call, in bytes as HTTP/2 counts them.
    pub metadata_limit: usize,
    /// The longest message, in bytes.
    pub message_limit: usize,
    /// All messages together.
    pub memory: Arc<Memory>,
    /// The longest that an idle shard looks for a request before it sleeps.
    pub busy_poll: Duration,
    /// Memory that clients share.
    pub regions: Regions,
    /// Whether clients may change what is logged.
    pub log_settings: bool,
    /// Where orders about models go, where clients may give any.
    pub orders: Option<Orders>,
    /// The name in ServerMetadata.
    pub server_name: String,
    /// The version in ServerMetadata.
    pub server_version: String,
}

/// How other threads speak to a shard.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    connections: Arc<AtomicUsize>,
    pending: Arc<AtomicUsize>,
    /// It has done all that it was given before it was last asked to turn.
    turned: Arc<AtomicBool>,
    stuck: Arc<AtomicBool>,
}

enum Command {
    Connect(Socket, Open),
    Install(Install),
    Remove(Remove),
    Work(Box<dyn FnOnce(Rc<Shard>) + Send>),
}

/// A model to serve from now on.
#[derive(Debug)]
pub struct Install {
    /// The model.
    pub model: Arc<Model>,
    /// Where it runs.
    pub runs: Runs,
    /// The bound on its queues.
    pub depth: Arc<Depth>,
    /// Dropped when the shard serves it.
    pub done: blocking::Sender<Infallible>,
}

/// A version of a model to serve no more.
#[derive(Debug)]
pub struct Remove {
    /// The model's name.
    pub name: String,
    /// Of it.
    pub version: u64,
    /// Dropped when the shard takes no more requests for it.
    pub done: blocking::Sender<Infallible>,
}

impl Handle {
    /// Connections given to it and not closed yet.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Requests accepted and not answered yet.
    pub fn pending(&self) -> usize {
        self.pending.load(Relaxed)
    }

    /// Asks it to show that it turns.
    pub fn turn(&self) {
        self.turned.store(false, Relaxed);
        let turned = self.turned.clone();
        let work = move |_| turned.store(true, Relaxed);
        let _ = self.commands.send(Command::Work(Box::new(work)));
    }

    /// Whether it has turned since it was last asked to.
    pub fn has_turned(&self) -> bool {
        self.turned.load(Relaxed)
    }

    /// Notes whether it is one that does not turn; what was noted before.
    pub fn set_stuck(&self, stuck: bool) -> bool {
        self.stuck.swap(stuck, Relaxed)
    }

    /// Whether it is one that does not turn.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed)
    }

    /// Gives it a connection.
    pub fn connect(&self, socket: Socket, open: Open) {
        self.connections.fetch_add(1, Relaxed);
        let _ = self.commands.send(Command::Connect(socket, open));
    }

    /// Has it serve a model.
    pub fn install(&self, install: Install) {
        let _ = self.commands.send(Command::Install(install));
    }

    /// Has it serve a model no more.
    pub fn remove(&self, remove: Remove) {
        let _ = self.commands.send(Command::Remove(remove));
    }

    /// Has it do some work on its own thread, which is given up when nobody waits for it any more.
    pub async fn run<T, F>(&self, work: impl FnOnce(Rc<Shard>) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (mut reply, answer) = oneshot::channel();
        let work = |shard| {
            spawn_local(async move {
                tokio::select! {
                    result = work(shard) => drop(reply.send(result)),
                    () = reply.closed() => {}
                }
            });
        };
        let _ = self.commands.send(Command::Work(Box::new(work)));
        answer.await.map_err(|_| Error::Internal)
    }
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not begun.
    Serving,
    /// No new connections and calls; what was accepted is answered.
    Draining,
    /// Now.
    Over,
}

/// Starts a shard. It ends when it has drained, or when life is over, and drops `ended` then.
pub fn start(
    number: usize,
    shared: Arc<Shared>,
    life: watch::Receiver<Life>,
    ended: blocking::Sender<Infallible>,
) -> io::Result<(Handle, JoinHandle<()>)> {
    let (commands, inbox) = mpsc::unbounded_channel();
    let handle = Handle {
        commands,
        connections: Arc::default(),
        pending: Arc::default(),
        turned: Arc::new(AtomicBool::new(true)),
        stuck: Arc::default(),
    };
    let own = handle.clone();
    let (started, starts) = blocking::channel();
    let thread = thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        let _ended = ended;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_park(give_way)
            // For messages that are too much work for the loop, one after the other.
            .max_blocking_threads(1)
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                let shard = Rc::new(Shard::new(shared, own, life));
                runtime.block_on(run(shard.clone(), inbox));
                // Closes the connections, before the models' lanes are waited for.
                drop(runtime);
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    starts.recv().unwrap_or_else(|_| Err(io::Error::other("a shard did not start")))?;
    Ok((handle, thread))
}

/// What the tasks of one shard share.
#[derive(Debug)]
pub struct Shard {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// How far the end has come.
    pub life: watch::Receiver<Life>,
    handle: Handle,
    models: RefCell<HashMap<String, BTreeMap<u64, Rc<Served>>>>,
    /// Counts requests that named no model there is.
    unknown: Arc<ModelMetrics>,
    routes: Routes,
    busy_poll: BusyPoll,
}

/// What is learnt of a request on its way, for the counters.
#[derive(Debug, Default)]
pub struct Trace {
    served: OnceCell<Rc<Served>>,
    ran: Cell<Option<Ran>>,
}

impl Trace {
    /// The network has answered it.
    pub fn ran(&self, answer: &Answer) {
        self.ran.set(Some(answer.into()));
    }
}

async fn run(shard: Rc<Shard>, mut inbox: mpsc::UnboundedReceiver<Command>) {
    let mut connections = JoinSet::new();
    let polling = shard.clone();
    spawn_local(async move { polling.busy_poll.run().await });
    loop {
        tokio::select! {
            Some(command) = inbox.recv() => match command {
                Command::Connect(socket, open) => {
                    connections.spawn_local(connect(shard.clone(), socket, open));
                }
                Command::Install(install) => shard.install(install),
                Command::Remove(remove) => shard.remove(remove),
                Command::Work(work) => work(shard.clone()),
            },
            Some(_) = connections.join_next() => {}
            // A connection that was given before the drain is in the inbox still.
            () = until(shard.life.clone(), |life| life != Life::Serving), if connections.is_empty() && inbox.is_empty() => break,
            () = until(shard.life.clone(), |life| life == Life::Over) => break,
        }
    }
}

/// Waits for the end to begin, or to be complete; keeps nothing of `life` locked.
pub async fn until(mut life: watch::Receiver<Life>, is_time: impl Fn(Life) -> bool) {
    let _ = life.wait_for(|life| is_time(*life)).await;
}

/// Serves a connection to its end.
async fn connect(shard: Rc<Shard>, socket: Socket, open: Open) {
    let _closed = Closed(shard.handle.connections.clone());
    connection::serve(shard, socket, open).await;
}

/// Counts a connection down when it is dropped.
struct Closed(Arc<AtomicUsize>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// An accepted request that is not answered yet.
#[derive(Debug)]
pub struct Pending(Arc<AtomicUsize>);

impl Pending {
    /// One more.
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Shard {
    fn new(shared: Arc<Shared>, handle: Handle, life: watch::Receiver<Life>) -> Self {
        let unknown = shared.metrics.writer("", 0);
        let routes = service::routes(&shared, &handle);
        let busy_poll = BusyPoll::new(shared.busy_poll);
        Self { shared, handle, life, models: RefCell::default(), unknown, routes, busy_poll }
    }

    fn install(&self, Install { model, runs, depth, done }: Install) {
        let metrics = self.shared.metrics.writer(&model.spec.name, model.spec.version);
        let served = Served::new(model.clone(), runs, depth, metrics);
        let mut models = self.models.borrow_mut();
        let versions = models.entry(model.spec.name.clone()).or_default();
        versions.insert(model.spec.version, Rc::new(served));
        drop(done);
    }

    /// Requests that were accepted hold the model until they are answered.
    fn remove(&self, Remove { name, version, done }: Remove) {
        let mut models = self.models.borrow_mut();
        if let Some(versions) = models.get_mut(&name) {
            versions.remove(&version);
        }
        models.retain(|_, versions| !versions.is_empty());
        drop(done);
    }

    /// The model a request names, or why it cannot be asked.
    pub fn find(&self, name: &str, version: &str, trace: &Trace) -> Result<Rc<Served>> {
        let served = self.models.borrow().get(name).and_then(|versions| {
            match parse_version(version).ok()? {
                Some(version) => versions.get(&version).cloned(),
                None => versions.values().next_back().cloned(),
            }
        });
        match served {
            Some(served) => {
                let _ = trace.served.set(served.clone());
                Ok(served)
            }
            None => Err(self.shared.catalog.why_not(name, version)),
        }
    }

    /// Begins a call: the two hot ones here, all others by tonic. None carries the request's head.
    pub fn begin(
        self: &Rc<Self>,
        open: &Open,
        request: Request<RecvStream>,
        reply: SendResponse<Bytes>,
    ) -> Reply {
        let arrived = Instant::now();
        open.called(arrived);
        let account = open.account();
        let mut held = account.hold().of_call(Pending::new(&self.handle.pending));
        let admitted = self.admit(request.headers(), &mut held);
        let dialect = Dialect::of(request.uri().path());
        let is_classify = match request.uri().path() {
            classify::PATH => true,
            infer::PATH => false,
            _ => {
                let request = request.map(Incoming::from);
                return match admitted {
                    Ok(()) => Reply::new(reply, self.clone().cold(account.clone(), request, held)),
                    Err(error) => Reply::new(reply, ready(grpc::failed(&error, dialect))),
                };
            }
        };
        let head = admitted.map_err(Refused::from).and_then(|()| grpc::head(&request, arrived));
        let (body, shard) = (Incoming::from(request.into_body()), self.clone());
        match is_classify {
            true => Reply::new(reply, shard.hot(held, head, body, dialect, classify::answer)),
            false => Reply::new(reply, shard.hot(held, head, body, dialect, infer::answer)),
        }
    }

    /// Holds a call's metadata against the limit and the budget.
    fn admit(&self, metadata: &HeaderMap, held: &mut Held) -> Result<()> {
        let size = grpc::metadata_size(metadata);
        if size > self.shared.metadata_limit {
            return Err(Error::MetadataTooLarge { found: size, limit: self.shared.metadata_limit });
        }
        held.grow(CALL_BYTES + size)
    }

    async fn hot<M: Content>(
        self: Rc<Self>,
        held: Held,
        head: Result<Call, Refused>,
        body: Incoming,
        dialect: Dialect,
        handle: impl AsyncFnOnce(&Self, M, Call, &mut Held, &Trace) -> Result<BytesMut>,
    ) -> Response<ReplyBody> {
        let arrived = head.as_ref().map_or_else(|_| Instant::now(), |call| call.arrived);
        self.busy_poll.request(arrived);
        let trace = Trace::default();
        let handle = async |message: M, call: Call, held: &mut Held| {
            handle(&self, message, call, held, &trace).await
        };
        let limit = self.shared.message_limit;
        let (response, outcome) = grpc::answer(head, body, dialect, limit, held, handle).await;
        self.count(&trace, outcome, arrived);
        response
    }

    async fn cold(
        self: Rc<Self>,
        account: Arc<Account>,
        request: Request<Incoming>,
        held: Held,
    ) -> Response<ReplyBody> {
        let dialect = Dialect::of(request.uri().path());
        let limit = self.shared.message_limit;
        let (request, load) = RequestBody::of(request, &account, held, self.life.clone(), limit);
        let call = AssertUnwindSafe(self.routes.clone().call(request)).catch_unwind();
        let Ok(response) = call.await.unwrap_or_else(|panic| {
            tracing::error!("a request {}", panic_text(&*panic));
            Ok(Error::Internal.status(dialect).into_http())
        });
        response.map(|body| ReplyBody::Tonic { body, load })
    }

    /// Answers one request of a stream.
    pub async fn answer_one<Q>(
        &self,
        request: Q,
        dialect: Dialect,
        mut held: Held,
        answer: impl AsyncFnOnce(&Self, Q, Call, &mut Held, &Trace) -> Result<BytesMut>,
    ) -> Result<Bytes> {
        let call = Call::now();
        let trace = Trace::default();
        let result = answer(self, request, call, &mut held, &trace).await;
        let result = result.and_then(grpc::within_limit);
        let failed = |error| Outcome::of(error, dialect);
        let outcome = result.as_ref().map_or_else(failed, |_| Outcome::OK);
        self.count(&trace, outcome, call.arrived);
        result.map(BytesMut::freeze)
    }

    /// Counts a request that has ended.
    fn count(&self, trace: &Trace, outcome: Outcome, arrived: Instant) {
        let metrics = trace.served.get().map_or(&self.unknown, |served| &served.metrics);
        let now = Instant::now();
        metrics.request(outcome, now.duration_since(arrived), trace.ran.get());
        self.busy_poll.answered(now);
    }
}
