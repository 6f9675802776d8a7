//! A running server, as the control plane holds it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self as blocking, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::access::{self, Access};
use crate::engine::reaper::Reaper;
use crate::engine::watchdog;
use crate::grpc::budget::Budget;
use crate::grpc::message::PREFIX;
use crate::lifecycle::Life;
use crate::metrics::Metrics;
use crate::metrics::tls::TlsMetrics;
use crate::model::Limits;
use crate::model::catalog::Catalog;
use crate::model::control::{ModelControl, Order};
use crate::model::device::GpuOptions;
use crate::server::acceptor::Control;
use crate::server::config::ServerConfig;
use crate::server::descriptors::Shares;
use crate::server::listeners::{Listeners, UnixSocket};
use crate::server::reload::{Files, Take, Watched};
use crate::service::dispatch::Dispatch;
use crate::shard::connections::Connections;
use crate::shard::event_loop;
use crate::shard::handle::Handle;
use crate::shared_memory::Regions;
use crate::state::ServerState;
use crate::tls::TlsOptions;
use crate::tls::config::Tls;
use crate::tls::credentials::FILE_BYTES;

pub mod acceptor;
pub mod config;
pub mod control_thread;
pub mod descriptors;
pub mod handshakes;
pub mod heartbeat;
pub mod http;
pub mod listeners;
pub mod models;
pub mod reload;
pub mod trim;

/// The longest time for which the threads, and then the engines of all models, are waited for in
/// the end: a run that hangs does not keep the process.
const LAST: Duration = Duration::from_secs(1);

/// A server with its threads. Dropping it ends them at once.
#[derive(Debug)]
pub struct Server {
    state: Arc<ServerState>,
    queue_rows: usize,
    limits: Limits,
    gpu: GpuOptions,
    orders: Mutex<blocking::Receiver<Option<Order>>>,
    shards: Vec<Handle<Dispatch>>,
    life: watch::Sender<Life>,
    /// The receiver that is disconnected when every shard has ended; nothing is ever sent.
    ended: Mutex<blocking::Receiver<Infallible>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The reaper, which ends the workers of models that are replaced or unloaded.
    reaper: Reaper,
    grpc_address: SocketAddr,
    http_address: SocketAddr,
}

impl Server {
    /// Binds both ports and starts the threads. The server has no model yet, and is not ready.
    pub fn start(config: ServerConfig) -> io::Result<Self> {
        trim::bound();
        let tls = config.tls.clone().map(read_tls).transpose()?;
        let certificates = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let access = Arc::new(Access::new(config.access, certificates)?);
        let watched = read_access(&access)?;
        let grpc = listeners::bind(&config.host, config.grpc_port)?;
        let http = listeners::bind(&config.http_host, config.http_port)?;
        let unix = config.unix_socket.as_deref().map(UnixSocket::bind).transpose()?;
        let (grpc_address, http_address) = (grpc.local_addr()?, http.local_addr()?);
        let loops = config.shards + usize::from(tls.is_some());
        let room = Shares::new(loops, config.max_connections, http::CONNECTIONS);
        let budget = Budget::new(config.memory_budget, config.stall_time);
        let (orders, inbox) = ModelControl::new(config.allow_model_upload);
        let state = Arc::new(ServerState {
            model_control: config.model_control.then_some(orders),
            catalog: Catalog::new(config.strict_readiness),
            metrics: Metrics {
                tls: tls.as_ref().map(|(tls, ..)| TlsMetrics::new(tls.expiry())),
                access: access.asks().then(|| access.metrics.clone()),
                ..Metrics::default()
            },
            access,
            reflection: config.reflection,
            handshake_time: config.handshake_time,
            connection_age: config.max_connection_age,
            connection_age_grace: config.max_connection_age_grace,
            metadata_limit: config.max_metadata_bytes,
            regions: Regions::new(config.shared_memory),
            log_settings: config.log_settings,
            // One connection's share of the budget has room for one message of any legal size.
            message_limit: config.max_message_bytes.min(budget.share() - PREFIX),
            budget,
            busy_poll: config.busy_poll,
            server_name: config.server_name.clone(),
            server_version: config.server_version.clone(),
        });
        let limits = Limits {
            run_time: config.run_time,
            run_memory: config.run_memory,
            answer: state.message_limit,
            outputs: state.budget.share(),
            load_time: config.load_time,
        };
        watchdog::start()?;
        let (end, ended) = blocking::channel();
        let mut server = Self {
            orders: Mutex::new(inbox),
            state,
            queue_rows: config.queue_rows,
            limits,
            gpu: config.gpu,
            shards: Vec::new(),
            life: watch::Sender::new(Life::Serving),
            ended: Mutex::new(ended),
            threads: Mutex::default(),
            reaper: Reaper::start()?,
            grpc_address,
            http_address,
        };
        let listeners = Listeners { grpc, unix, http };
        server.start_threads(config.shards, &room, end, listeners, tls, watched)?;
        Ok(server)
    }

    fn start_threads(
        &mut self,
        shards: usize,
        room: &Shares,
        end: blocking::Sender<Infallible>,
        listeners: Listeners,
        tls: Option<(Tls, Files, Vec<Vec<u8>>)>,
        access: Vec<Watched>,
    ) -> io::Result<()> {
        let mut threads = Vec::new();
        let mut watched = access;
        for number in 0..shards {
            let life = self.life.subscribe();
            let (handle, thread) =
                event_loop::start(number, self.state.clone(), life, end.clone())?;
            self.shards.push(handle);
            threads.push(thread);
        }
        let mut of_control = None;
        if let Some((tls, files, first)) = tls {
            let (tls, life) = (Arc::new(tls), self.life.subscribe());
            let (state, shards) = (self.state.clone(), self.shards.clone());
            let (handshakes, thread) = handshakes::start(tls.clone(), state, shards, life)?;
            threads.push(thread);
            watched.push(Watched { files, first, take: take_tls(tls.clone(), self.state.clone()) });
            of_control = Some((tls, handshakes));
        }
        let control = Control {
            state: self.state.clone(),
            tls: of_control,
            shards: self.shards.clone(),
            connections: Connections::new(room.grpc),
            http_connections: room.http,
            life: self.life.subscribe(),
        };
        threads.push(control_thread::start(control, listeners, watched)?);
        self.threads = Mutex::new(threads);
        Ok(())
    }

    /// A line for people that says who may do what.
    pub fn access(&self) -> String {
        self.state.access.summary()
    }

    /// The address at which gRPC is served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// The address at which operators are answered.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Waits for the next order of a client about a model; none where no more will come.
    pub fn next_order(&self) -> Option<Order> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).recv().ok().flatten()
    }

    /// Notes that every model of the start has been loaded or has failed: the server may be ready.
    pub fn finish_loading(&self) {
        self.state.catalog.finish_loading();
    }

    /// Whether the server is ready.
    pub fn is_ready(&self) -> bool {
        self.state.catalog.read().is_ready()
    }

    /// Begins the end, and returns at once. New connections are not taken, open ones get a GOAWAY,
    /// and idle streams are ended. Requests that were accepted are still answered.
    pub fn drain(&self) {
        self.state.catalog.drain();
        if let Some(orders) = &self.state.model_control {
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

    /// Waits at most so long for a draining server to have answered everything. Returns whether it
    /// has.
    pub fn wait(&self, time: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }

    /// Ends all threads now, but for those that hang in a run. Returns the number of accepted
    /// requests that were not answered.
    pub fn stop(&self) -> usize {
        self.state.catalog.drain();
        let lost = self.shards.iter().map(Handle::pending).sum();
        self.life.send_replace(Life::Over);
        // The control thread ends in any case, but a shard may be in a run that hangs.
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
        self.reaper.wait(LAST);
        if let Some(audit) = &self.state.access.audit {
            audit.finish(LAST);
        }
        lost
    }
}

/// Reads the files of TLS, which are read again later. The error names the file.
fn read_tls(options: TlsOptions) -> io::Result<(Tls, Files, Vec<Vec<u8>>)> {
    let files = Files::new("certificate", options.paths(), FILE_BYTES);
    let contents = files.read().map_err(io::Error::other)?;
    let tls = Tls::new(options, &contents).map_err(io::Error::other)?;
    Ok((tls, files, contents))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The files of the policy, of which the contents are in force.
fn read_access(access: &Arc<Access>) -> io::Result<Vec<Watched>> {
    let read = |(part, flag, path): (access::Part, &'static str, PathBuf)| {
        let files = Files::new(part.name(), vec![(flag, path.clone())], access::FILE_BYTES);
        let first = files.read()?;
        let access = access.clone();
        let take = move |contents: &[Vec<u8>]| {
            let text = contents.first().map_or(&[][..], Vec::as_slice);
            access.take(part, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        take(&first)?;
        Ok(Watched { files, first, take: Box::new(take) })
    };
    let watched: Result<_, String> = access.parts().into_iter().map(read).collect();
    watched.map_err(io::Error::other)
}

/// Has new connections use the certificate, key and authorities that the files hold now.
fn take_tls(tls: Arc<Tls>, state: Arc<ServerState>) -> Take {
    Box::new(move |contents| {
        tls.take(contents)?;
        state.metrics.tls.iter().for_each(|metrics| metrics.set_expiry(tls.expiry()));
        Ok(())
    })
}
