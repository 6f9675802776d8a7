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

/// Carries a handshake to its end. `process` does the `work`, on this thread or another. A client
/// that is refused is told why, after `fails` has noted it.
pub async fn handshake<S>(
    io: &mut S,
    session: Session,
    process: impl AsyncFn(Session) -> Result<Worked, Broken>,
    fails: impl FnOnce(&Broken),
) -> Result<Session, Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (broken, told) = match exchange(io, session, process).await {
        Ok(mut session) if is_expired(&session) => {
            session.send_close_notify();
            (Broken::Expired, Some(session))
        }
        Ok(session) => return Ok(session),
        Err(failed) => failed,
    };
    fails(&broken);
    if let Some(mut session) = told {
        // The alert is in the session. It may find its client gone.
        let _ = poll_fn(|context| drain(io, &mut session, context)).await;
    }
    Err(broken)
}

/// Reads and writes until the session stands. An error comes with the session where that has an
/// alert to send.
async fn exchange<S>(
    io: &mut S,
    mut session: Session,
    process: impl AsyncFn(Session) -> Result<Worked, Broken>,
) -> Result<Session, (Broken, Option<Session>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error| (Broken::Connection(error), None);
    loop {
        poll_fn(|context| drain(io, &mut session, context)).await.map_err(broken)?;
        if !session.is_handshaking() {
            return Ok(session);
        }
        if poll_fn(|context| fill(io, &mut session, context)).await.map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let result;
        (session, result) = process(session).await.map_err(|error| (error, None))?;
        if let Err(error) = result {
            return Err((Broken::Refused(error), Some(session)));
        }
    }
}

/// Whether a session is resumed for a client whose certificate is valid no more. A client is only
/// verified in its first session.
fn is_expired(session: &ServerConnection) -> bool {
    session.handshake_kind() == Some(HandshakeKind::Resumed)
        && session.peer_certificates().and_then(<[_]>::first).is_some_and(|it| !is_in_time(it))
}
