//! The control thread, which accepts connections, answers operators, and looks after the shards.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

use crate::lifecycle::Life;
use crate::server::acceptor::{Control, accept};
use crate::server::listeners::{Listeners, UnixSocket};
use crate::server::reload::Watched;
use crate::server::{handshakes, heartbeat, http, reload, trim};
use crate::shard::socket::Socket;

/// Time for which a connection is silent before its client, which may have vanished, is looked for.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The most threads that help the control thread with what takes long.
const HELPERS: usize = 4;

/// Starts the control thread, which ends when the server's life is over.
pub fn start(
    control: Control,
    listeners: Listeners,
    watched: Vec<Watched>,
) -> io::Result<JoinHandle<()>> {
    let (started, starts) = blocking::channel();
    let thread = thread::Builder::new().name("control".into()).spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            // Helpers of this thread read files, give memory back, and do handshakes of HTTP.
            .max_blocking_threads(HELPERS)
            .on_thread_start(handshakes::give_way)
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(Rc::new(control), listeners, watched, started)),
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    starts.recv().unwrap_or_else(|_| Err(io::Error::other("the control thread did not start")))?;
    Ok(thread)
}

async fn run(
    control: Rc<Control>,
    listeners: Listeners,
    watched: Vec<Watched>,
    started: blocking::Sender<io::Result<()>>,
) {
    // The Unix socket is kept here, so that its file is removed when this function ends.
    let Listeners { grpc, unix, http } = listeners;
    if let Err(error) = accept_all(&control, grpc, unix.as_ref(), http) {
        return drop(started.send(Err(error)));
    }
    for files in watched {
        let control = control.clone();
        spawn_local(async move { reload::watch(&control.state.metrics, files).await });
    }
    let _ = started.send(Ok(()));
    let _ = control.life.clone().wait_for(|life| *life == Life::Over).await;
}

fn accept_all(
    control: &Rc<Control>,
    grpc: TcpListener,
    unix: Option<&UnixSocket>,
    http: TcpListener,
) -> io::Result<()> {
    let grpc = tokio::net::TcpListener::from_std(grpc)?;
    let http = tokio::net::TcpListener::from_std(http)?;
    if let Some(UnixSocket { listener, .. }) = unix {
        let unix = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
        let next = async move || Ok(Socket::Unix(unix.accept().await?.0.into_std()?));
        spawn_local(accept(control.clone(), next));
    }
    let next = async move || {
        let stream = grpc.accept().await?.0;
        // Both options fail only where the client has gone already.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        Ok(Socket::Tcp(stream.into_std()?))
    };
    spawn_local(accept(control.clone(), next));
    spawn_local(http::serve(control.clone(), http));
    spawn_local(heartbeat::watch(control.clone()));
    spawn_local(trim::watch(control.clone()));
    Ok(())
}
