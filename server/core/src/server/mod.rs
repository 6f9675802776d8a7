//! A running server: what the control plane holds.

use std::convert::Infallible;
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self as blocking, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::engine::Source;
use crate::engine::reaper::Ender;
use crate::engine::thread::EngineThread;
use crate::engine::watchdog;
use crate::grpc;
use crate::grpc::budget::Memory;
use crate::loading::factory::Maker;
use crate::loading::golden::Sample;
use crate::loading::placement;
use crate::metrics::{LaneMetrics, Metrics, Shown};
use crate::model::catalog::{Catalog, State};
use crate::model::control::{Order, Orders};
use crate::model::device::{Device, GpuOptions};
use crate::model::{Limits, Model, ModelSpec, Report};
use crate::scheduler::batch::Runner;
use crate::scheduler::estimate::Pace;
use crate::scheduler::limits::Depth;
use crate::scheduler::queue::Queue;
use crate::scheduler::served_model::Runs;
use crate::scheduler::workers::{Crew, Lane, Lanes, PATIENCE, PAUSES};
use crate::server::control_thread::Control;
use crate::server::descriptors::Shares;
use crate::server::listeners::{Listeners, UnixSocket};
use crate::shard::connections::Connections;
use crate::shard::{self, Handle, Install, Life, Remove, Shared};
use crate::shared_memory::Regions;

pub mod control_thread;
pub mod descriptors;
pub mod heartbeat;
pub mod http;
pub mod listeners;
pub mod trim;

/// The longest that is waited for the engines of a model that is replaced or unloaded ...
const ENDING: Duration = Duration::from_secs(10);
/// ... and for all of them in the end: a run that hangs does not keep a process.
const LAST: Duration = Duration::from_secs(1);

/// How a server is to run.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address both ports are bound on, by name or number.
    pub host: String,
    /// 0: any free one.
    pub grpc_port: u16,
    /// Where to listen for gRPC as well: the path of a Unix domain socket.
    pub unix_socket: Option<PathBuf>,
    /// 0: any free one.
    pub http_port: u16,
    /// Threads that answer requests; at least 1.
    pub shards: usize,
    /// Rows that may wait for one model.
    pub queue_rows: usize,
    /// The longest message, in bytes.
    pub max_message_bytes: usize,
    /// Clients may register shared memory.
    pub shared_memory: bool,
    /// Clients may load and unload models.
    pub model_control: bool,
    /// Models may come with a request.
    pub allow_model_upload: bool,
    /// Clients may change what is logged.
    pub log_settings: bool,
    /// Open connections at once.
    pub max_connections: usize,
    /// The longest that a client may take to begin to speak HTTP/2.
    pub handshake_time: Duration,
    /// The most metadata of a call, in bytes as HTTP/2 counts them.
    pub max_metadata_bytes: usize,
    /// What all messages and answers may hold together, in bytes; the longest message is half of it.
    pub memory_budget: usize,
    /// The longest that a client may keep a message half sent or an answer untaken.
    pub stall_time: Duration,
    /// The longest that an idle shard looks for a request before it sleeps.
    pub busy_poll: Duration,
    /// The longest run of a model.
    pub run_time: Duration,
    /// The most that a run allocates on the host, in bytes.
    pub run_memory: usize,
    /// The longest that a lane takes to get another engine.
    pub load_time: Duration,
    /// How models are run on GPUs.
    pub gpu: GpuOptions,
    /// The name in ServerMetadata.
    pub server_name: String,
    /// The version in ServerMetadata.
    pub server_version: String,
    /// Ready means every model is; otherwise any.
    pub strict_readiness: bool,
}

impl Default for ServerConfig {
    /// Free ports on the loopback interface, one shard, and what the flags of `sigmax serve` are
    /// where nobody sets them.
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            grpc_port: 0,
            unix_socket: None,
            http_port: 0,
            shards: 1,
            queue_rows: 65_536,
            max_message_bytes: 64 << 20,
            shared_memory: false,
            model_control: false,
            allow_model_upload: false,
            log_settings: false,
            max_connections: 4096,
            handshake_time: Duration::from_secs(10),
            max_metadata_bytes: 64 << 10,
            memory_budget: 1 << 30,
            stall_time: Duration::from_secs(60),
            busy_poll: Duration::ZERO,
            run_time: Duration::from_secs(60),
            run_memory: 1 << 30,
            load_time: Duration::from_secs(300),
            gpu: GpuOptions::default(),
            server_name: "triton".into(),
            server_version: "0".into(),
            strict_readiness: true,
        }
    }
}

/// A server with its threads. Dropping it ends them at once.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    queue_rows: usize,
    limits: Limits,
    gpu: GpuOptions,
    orders: Mutex<blocking::Receiver<Option<Order>>>,
    shards: Vec<Handle>,
    life: watch::Sender<Life>,
    /// Hears that every shard has ended: nothing is ever sent.
    ended: Mutex<blocking::Receiver<Infallible>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Ends the lanes of models that are replaced or unloaded.
    ender: Ender,
    grpc_address: SocketAddr,
    http_address: SocketAddr,
}

impl Server {
    /// Binds both ports and starts the threads; there is no model yet, and it is not ready.
    pub fn start(config: ServerConfig) -> io::Result<Self> {
        let grpc = listeners::bind(&config.host, config.grpc_port)?;
        let http = listeners::bind(&config.host, config.http_port)?;
        let unix = config.unix_socket.as_deref().map(UnixSocket::bind).transpose()?;
        let (grpc_address, http_address) = (grpc.local_addr()?, http.local_addr()?);
        let room = Shares::new(config.shards, config.max_connections, http::CONNECTIONS);
        let memory = Memory::new(config.memory_budget, config.stall_time);
        let (orders, inbox) = Orders::new(config.allow_model_upload);
        let shared = Arc::new(Shared {
            orders: config.model_control.then_some(orders),
            catalog: Catalog::new(config.strict_readiness),
            metrics: Metrics::default(),
            connections: Connections::new(room.grpc),
            handshake_time: config.handshake_time,
            metadata_limit: config.max_metadata_bytes,
            regions: Regions::new(config.shared_memory),
            log_settings: config.log_settings,
            // Room for one message of any legal size, at least.
            message_limit: config.max_message_bytes.min(memory.share() - grpc::PREFIX),
            memory,
            busy_poll: config.busy_poll,
            server_name: config.server_name.clone(),
            server_version: config.server_version.clone(),
        });
        let limits = Limits {
            run_time: config.run_time,
            run_memory: config.run_memory,
            answer: shared.message_limit,
            outputs: shared.memory.share(),
            load_time: config.load_time,
        };
        watchdog::start()?;
        let (end, ended) = blocking::channel();
        let mut server = Self {
            orders: Mutex::new(inbox),
            shared,
            queue_rows: config.queue_rows,
            limits,
            gpu: config.gpu,
            shards: Vec::new(),
            life: watch::Sender::new(Life::Serving),
            ended: Mutex::new(ended),
            threads: Mutex::default(),
            ender: Ender::start()?,
            grpc_address,
            http_address,
        };
        let listeners = Listeners { grpc, unix, http };
        server.start_threads(config.shards, room.http, end, listeners)?;
        Ok(server)
    }

    fn start_threads(
        &mut self,
        shards: usize,
        http_connections: usize,
        end: blocking::Sender<Infallible>,
        listeners: Listeners,
    ) -> io::Result<()> {
        let mut threads = Vec::new();
        for number in 0..shards {
            let life = self.life.subscribe();
            let (handle, thread) = shard::start(number, self.shared.clone(), life, end.clone())?;
            self.shards.push(handle);
            threads.push(thread);
        }
        let control = Control {
            shared: self.shared.clone(),
            shards: self.shards.clone(),
            http_connections,
            life: self.life.subscribe(),
        };
        threads.push(control_thread::start(control, listeners)?);
        self.threads = Mutex::new(threads);
        Ok(())
    }

    /// Where gRPC is served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where operators are answered.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Makes a model known, as loading, unless it serves already.
    pub fn declare(&self, name: &str, version: u64) {
        self.shared.catalog.set_unless_ready(name, version, State::Loading);
    }

    /// Waits for the next order of a client; nothing where none will come any more.
    pub fn next_order(&self) -> Option<Order> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).recv().ok().flatten()
    }

    /// The versions of a model that serve, or should and cannot.
    pub fn versions(&self, name: &str) -> Vec<u64> {
        let book = self.shared.catalog.read();
        let versions = book.versions(name).into_iter().flatten();
        let wanted = versions.filter(|(_, state)| !matches!(state, State::Unloaded));
        wanted.map(|(version, _)| *version).collect()
    }

    /// Serves a version of a model no more; what was accepted is still answered. Returns when its
    /// memory is free, unless it is still asked.
    pub fn unload(&self, name: &str, version: u64) {
        self.shared.catalog.set(name, version, State::Unloaded);
        let (done, all_done) = blocking::channel();
        for shard in &self.shards {
            shard.remove(Remove { name: name.to_owned(), version, done: done.clone() });
        }
        drop(done);
        // One that does not turn hears of it later.
        let _ = all_done.recv_timeout(ENDING);
        self.shared.metrics.forget(name, version);
        // Who unloads one model wants to have its memory for another.
        self.ender.wait(ENDING);
    }

    /// Tries a declared model where it may run, warms it up, checks its golden samples and serves it.
    /// What is not done at this time is given up.
    pub fn load(
        &self,
        source: Box<dyn Source>,
        mut spec: ModelSpec,
        samples: Vec<Sample>,
        until: Instant,
    ) -> Result<Report, String> {
        spec.limits = self.limits;
        let maker = Arc::new(Maker { source, spec, samples, gpu: self.gpu });
        let shards = self.shards.len();
        let mut chosen = placement::choose(&maker, shards, until)?;
        // A light model runs in the shards' loops, where each of them can have an engine.
        chosen.report.heavy |= chosen.devices != vec![Device::Cpu; shards];
        // Nothing that a request says keeps a loop from turning.
        chosen.report.heavy |= maker.source.is_open();
        let mut spec = maker.spec.clone();
        spec.config.instance_group = placement::instance_groups(&spec.name, &chosen.devices);
        let model = Arc::new(Model { spec, report: chosen.report.clone() });
        // One model's queue leaves the others room.
        let bytes = self.shared.memory.share();
        let pace = Pace::new(&model, chosen.devices.len());
        let depth = Depth::new(self.queue_rows, bytes, &model.spec.batching, pace);
        let threads = chosen.complete(&maker, until)?;
        let (name, version) = (&model.spec.name, model.spec.version);
        // Statistics begin anew with every load.
        self.shared.metrics.forget(name, version);
        let device = model.report.device.clone();
        let mut shown = Shown { depth: depth.clone(), device, lanes: Vec::new() };
        let (runs, lanes) = if model.report.heavy {
            let lanes = self.lanes(&model, maker, threads, &mut shown);
            (iter::repeat_with(|| Runs::InLanes(lanes.clone())).take(shards).collect(), Some(lanes))
        } else {
            let taken = threads.iter().map(|(_, thread)| thread.run(Option::take).recv().ok()?);
            (taken.flatten().map(Runs::Here).collect(), None)
        };
        self.install(&model, &depth, runs);
        self.shared.metrics.show(name, version, shown);
        self.shared.catalog.set(name, version, State::Ready(model.clone()));
        if let Some(lanes) = lanes {
            // Where they have been lost already, nobody was there to hear of it.
            lanes.tell();
        }
        Ok(model.report.clone())
    }

    /// Starts a lane on every thread.
    fn lanes(
        &self,
        model: &Arc<Model>,
        maker: Arc<Maker>,
        threads: Vec<(Device, EngineThread)>,
        shown: &mut Shown,
    ) -> Arc<Lanes> {
        let ModelSpec { name, version, batching, .. } = &model.spec;
        let depth = &shown.depth;
        let queue = Queue::new(depth.clone(), model.batch_rows(), batching);
        let lane = |(device, thread): (Device, EngineThread)| {
            let metrics = self.shared.metrics.writer(name, *version);
            let runner = Runner::new(model.clone(), metrics, depth.clone());
            let of_device = device.to_string();
            let known = shown.lanes.iter().find(|metrics| metrics.device == of_device);
            let metrics = known.cloned().unwrap_or_else(|| {
                let metrics = LaneMetrics::new(of_device);
                shown.lanes.push(metrics.clone());
                metrics
            });
            Lane { device, thread, runner, metrics }
        };
        let lanes = threads.into_iter().map(lane).collect();
        let (shared, told) = (self.shared.clone(), model.clone());
        let tell = move |lost: Option<&str>| shared.catalog.set_lost(&told, lost);
        let crew = Crew {
            model: model.clone(),
            maker,
            pauses: PAUSES.into(),
            patience: PATIENCE,
            tell: Box::new(tell),
            ender: self.ender.clone(),
        };
        Lanes::start(queue, lanes, crew)
    }

    /// Has every shard serve a model, and waits until all that turn do and what it replaces has ended.
    fn install(&self, model: &Arc<Model>, depth: &Arc<Depth>, runs: Vec<Runs>) {
        let (done, all_done) = blocking::channel();
        for (shard, runs) in self.shards.iter().zip(runs) {
            let (model, depth, done) = (model.clone(), depth.clone(), done.clone());
            shard.install(Install { model, runs, depth, done });
        }
        drop(done);
        // One that does not turn serves it later.
        let _ = all_done.recv_timeout(ENDING);
        self.ender.wait(ENDING);
    }

    /// Marks a declared model as unavailable, unless it serves already.
    pub fn fail(&self, name: &str, version: u64, reason: String) {
        self.shared.catalog.set_unless_ready(name, version, State::Unavailable(reason));
    }

    /// Drops what is known of a version that does not serve; nothing tells that it was tried.
    pub fn forget(&self, name: &str, version: u64) {
        self.shared.catalog.forget(name, version);
    }

    /// Every model of the start has been loaded or has failed: the server may be ready.
    pub fn finish_loading(&self) {
        self.shared.catalog.finish_loading();
    }

    /// Whether the server is ready.
    pub fn is_ready(&self) -> bool {
        self.shared.catalog.read().is_ready()
    }

    /// Begins the end, and returns at once: no new connections, GOAWAY on the open ones, idle
    /// streams ended. What was accepted is still answered.
    pub fn drain(&self) {
        self.shared.catalog.drain();
        if let Some(orders) = &self.shared.orders {
            orders.end();
        }
        self.life.send_if_modified(|life| {
            let begins = *life == Life::Serving;
            if begins {
                *life = Life::Draining;
            }
            begins
        });
    }

    /// Waits at most so long for a draining server to have answered everything; whether it has.
    pub fn wait(&self, time: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }

    /// Ends all threads now, but for those that hang in a run; the number of accepted requests that
    /// were not answered.
    pub fn stop(&self) -> usize {
        self.shared.catalog.drain();
        let lost = self.shards.iter().map(Handle::pending).sum();
        self.life.send_replace(Life::Over);
        // The control thread ends whatever hangs; a shard may be in a run.
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = Instant::now() + LAST;
        for thread in threads.drain(..) {
            while !thread.is_finished() && Instant::now() < patience {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
        self.ender.wait(LAST);
        lost
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
