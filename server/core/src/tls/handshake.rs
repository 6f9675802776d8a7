//! Handshakes of TLS.

use std::future::poll_fn;
use std::io;

use rustls::{HandshakeKind, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::metrics::tls::Failure;
use crate::tls::Session;
use crate::tls::credentials::is_in_time;
use crate::tls::stream::{drain, fill};

/// The end of a handshake that has failed.
#[derive(Debug)]
pub enum Broken {
    /// The connection has broken, or its client has closed it.
    Connection(io::Error),
    /// One of the two has refused the other.
    Refused(rustls::Error),
    /// The client's certificate, by which an earlier session began, is not valid any more.
    Expired,
}

impl Broken {
    /// The words for it.
    pub fn words(&self) -> String {
        match self {
            Self::Connection(error) => format!("the connection broke: {error}"),
            Self::Refused(error) => error.to_string(),
            Self::Expired => "the client's certificate has expired since its last session".into(),
        }
    }

    /// The failure as it is counted.
    pub fn failure(&self) -> Failure {
        use rustls::Error::*;
        match self {
            Self::Connection(_) => Failure::Closed,
            Self::Expired => Failure::ClientCertificate,
            Self::Refused(error) => match error {
                InvalidMessage(_) => Failure::NotTls,
                PeerIncompatible(_) | NoApplicationProtocol | General(_) => Failure::Incompatible,
                NoCertificatesPresented | InvalidCertificate(_) => Failure::ClientCertificate,
                AlertReceived(_) => Failure::Alert,
                _ => Failure::Other,
            },
        }
    }
}

/// A session, and what came of the work on it.
pub type Worked = (Session, Result<(), rustls::Error>);

/// The work on what has come from a client, which is the only part that takes long.
pub fn work(mut session: Session) -> Worked {
    let result = session.process_new_packets().map(drop);
    (session, result)
}

/// Carries a handshake to its end; a client that is refused is told why. `process` does the `work`,
/// on this thread or another.
pub async fn handshake<S>(
    io: &mut S,
    mut session: Session,
    process: impl AsyncFn(Session) -> Result<Worked, Broken>,
) -> Result<Session, Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let written = poll_fn(|context| drain(io, &mut session, context)).await;
        written.map_err(Broken::Connection)?;
        if !session.is_handshaking() {
            break;
        }
        let read = poll_fn(|context| fill(io, &mut session, context)).await;
        if read.map_err(Broken::Connection)? == 0 {
            return Err(Broken::Connection(io::ErrorKind::UnexpectedEof.into()));
        }
        let result;
        (session, result) = process(session).await?;
        if let Err(error) = result {
            // The alert is in the session. It may find its client gone.
            let _ = poll_fn(|context| drain(io, &mut session, context)).await;
            return Err(Broken::Refused(error));
        }
    }
    match is_expired(&session) {
        true => {
            session.send_close_notify();
            let _ = poll_fn(|context| drain(io, &mut session, context)).await;
            Err(Broken::Expired)
        }
        false => Ok(session),
    }
}

/// Whether a session is resumed for a client whose certificate is valid no more. A client is only
/// verified in its first session.
fn is_expired(session: &ServerConnection) -> bool {
    session.handshake_kind() == Some(HandshakeKind::Resumed)
        && session.peer_certificates().and_then(<[_]>::first).is_some_and(|it| !is_in_time(it))
}
