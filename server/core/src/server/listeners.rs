//! The sockets that clients connect to.

use std::fs;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Type};

/// The most connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// The sockets that clients connect to.
#[derive(Debug)]
pub struct Listeners {
    /// The port of gRPC.
    pub grpc: TcpListener,
    /// The Unix domain socket of gRPC, for clients on this machine; none where it is not wanted.
    pub unix: Option<UnixSocket>,
    /// The port of HTTP, for operators.
    pub http: TcpListener,
}

/// Binds a port; 0: any free one. The host `::` stands for every address of the machine, those of
/// IPv4 too. The error names the address.
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let listen = |address: SocketAddr| {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.ip() == Ipv6Addr::UNSPECIFIED {
            // The option is set because the machine's default may be another.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    (host, port)
        .to_socket_addrs()
        .and_then(|mut addresses| {
            addresses.next().ok_or_else(|| io::Error::other("the name has no address"))
        })
        .and_then(listen)
        .map_err(|error| {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            io::Error::new(error.kind(), format!("cannot listen on {host}:{port}: {error}"))
        })
}

/// A socket in the file system that listens. The file is removed when this is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    path: PathBuf,
    /// The listener to which connections come.
    pub listener: UnixListener,
}

impl UnixSocket {
    /// Listens at this path. A socket file that nobody listens at is replaced. The error names the
    /// path.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let is_socket = |data: fs::Metadata| data.file_type().is_socket();
        let is_left = fs::symlink_metadata(path).is_ok_and(is_socket)
            && UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        let bound = match is_left {
            true => fs::remove_file(path),
            false => Ok(()),
        };
        bound
            .and_then(|()| UnixListener::bind(path))
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(Self { path: path.into(), listener })
            })
            .map_err(|error| {
                let place = path.display();
                io::Error::new(error.kind(), format!("cannot listen on unix:{place}: {error}"))
            })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
