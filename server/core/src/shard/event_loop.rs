//! The thread of a shard and its event loop.

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_local};

use crate::lifecycle::{Life, until};
use crate::scheduler::give_way::give_way;
use crate::shard::busy_poll::BusyPoll;
use crate::shard::handle::{Command, Handle};
use crate::shard::models::Models;
use crate::shard::{Service, Shard, connection};
use crate::state::ServerState;

/// Starts a shard that runs the service `S`. The shard ends when it has drained, or when the
/// server's life is over, and drops `ended` then.
pub fn start<S: Service>(
    number: usize,
    state: Arc<ServerState>,
    life: watch::Receiver<Life>,
    ended: blocking::Sender<Infallible>,
) -> io::Result<(Handle<S>, JoinHandle<()>)> {
    let (handle, inbox) = Handle::new();
    let own = handle.clone();
    let (started, starts) = blocking::channel();
    let thread = thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        let _ended = ended;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_park(give_way)
            // One other thread takes the work on messages that is too much for the loop.
            .max_blocking_threads(1)
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                let (models, busy_poll) =
                    (Models::new(state.clone()), BusyPoll::new(state.busy_poll));
                let service = S::new(Shard { state, life, models, busy_poll }, own);
                runtime.block_on(run(Rc::new(service), inbox));
                // The loop's end closes the connections, before the workers of the models are
                // waited for.
                drop(runtime);
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    starts.recv().unwrap_or_else(|_| Err(io::Error::other("a shard did not start")))?;
    Ok((handle, thread))
}

async fn run<S: Service>(service: Rc<S>, mut inbox: mpsc::UnboundedReceiver<Command<S>>) {
    let mut connections = JoinSet::new();
    let polling = service.clone();
    spawn_local(async move { polling.shard().busy_poll.run().await });
    let Shard { life, models, .. } = service.shard();
    loop {
        tokio::select! {
            Some(command) = inbox.recv() => match command {
                Command::Connect(socket, open, counted) => {
                    let service = service.clone();
                    connections.spawn_local(async move {
                        connection::serve(service, socket, open).await;
                        drop(counted);
                    });
                }
                Command::Install(install) => models.install(install),
                Command::Remove(remove) => models.remove(remove),
                Command::Work(work) => work(service.clone()),
            },
            Some(_) = connections.join_next() => {}
            // A connection that was given to the shard before the drain may still be in the inbox.
            () = until(life.clone(), |life| life != Life::Serving),
                if connections.is_empty() && inbox.is_empty() => break,
            () = until(life.clone(), |life| life == Life::Over) => break,
        }
    }
}
