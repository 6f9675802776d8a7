//! Callers: who makes a call, over which connection, and of which method.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::{Request, Status};

use crate::access::Access;
use crate::access::audit::Event;
use crate::access::identity::Identity;
use crate::access::methods::{Entry, Method};
use crate::access::policy::{Credentials, Policy};
use crate::access::principal::Principal;
use crate::access::rules::Right;
use crate::error::{Dialect, Error, Result};

/// The header that carries a token.
const AUTHORIZATION: &str = "authorization";

/// The client of a connection.
#[derive(Debug)]
pub struct Client {
    /// The state of access that all threads share.
    pub access: Arc<Access>,
    /// The address of the client; none: it came over a Unix domain socket.
    pub address: Option<SocketAddr>,
    /// The identity that the client's certificate says; none where it has shown none.
    pub certified: Option<Identity>,
    /// The turn of a call whose token is being checked, of all calls of the connection.
    pub checking: tokio::sync::Mutex<()>,
    /// The principal by the certificate, as it was found last.
    principal: Mutex<Option<Arc<Principal>>>,
}

impl Client {
    /// The client of a connection that begins.
    pub fn new(
        access: Arc<Access>,
        address: Option<SocketAddr>,
        certificate: Option<&[u8]>,
    ) -> Self {
        let certified = certificate.and_then(Identity::of_certificate);
        let (checking, principal) = Default::default();
        Self { access, address, certified, checking, principal }
    }

    /// The principal by the client's certificate.
    pub fn by_certificate(&self, policy: &Policy) -> Arc<Principal> {
        let mut kept = self.principal.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(principal) if !principal.is_stale(policy.generation) => principal.clone(),
            _ => {
                let principal = policy.principal(Credentials::Absent, self.certified.as_ref());
                kept.insert(Arc::new(principal)).clone()
            }
        }
    }
}

/// The caller of a call: who it is, from where, and what it calls.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Arc<Principal>,
    client: Arc<Client>,
    method: &'static Method,
}

impl Caller {
    /// The caller of one call.
    pub fn new(principal: Arc<Principal>, client: Arc<Client>, method: &'static Method) -> Self {
        Self { principal, client, method }
    }

    /// The caller of a call that tonic answers.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| Error::Internal.status(Dialect::Sigmax))
    }

    /// The dialect of the method's service.
    pub fn dialect(&self) -> Dialect {
        Dialect::of(self.method.path)
    }

    /// Checks what the method asks of its caller before its message is read.
    pub fn may_enter(&self) -> Result<()> {
        self.told(
            None,
            match self.method.entry {
                Entry::Open => Ok(()),
                Entry::Known => self.principal.is_known(),
                Entry::Server => self.principal.may(self.method.right, None),
            },
        )
    }

    /// Checks the method's right with a model, which need not be there: a refusal tells nothing of
    /// that.
    pub fn may(&self, model: &str) -> Result<()> {
        self.told(Some(model), self.principal.may(self.method.right, Some(model)))
    }

    /// Whether the caller may know that there is a model of this name.
    pub fn sees(&self, model: &str) -> bool {
        self.principal.may(Right::Describe, Some(model)).is_ok()
    }

    /// Checks the right to control the server as a whole.
    pub fn may_control(&self) -> Result<()> {
        self.told(None, self.principal.may(Right::Control, None))
    }

    /// Writes into the audit log what came of an order to control a model, or the server.
    pub fn record<T>(&self, model: Option<&str>, result: &Result<T>) {
        // Refused rights have a line already.
        let refused = |error: &&Error| matches!(error, Error::PermissionDenied { .. });
        if result.as_ref().err().filter(refused).is_none() {
            self.write(model, result.as_ref().err());
        }
    }

    /// Counts and writes a refusal.
    fn told(&self, model: Option<&str>, result: Result<()>) -> Result<()> {
        result.inspect_err(|error| {
            self.client.access.metrics.count(error);
            self.write(model, Some(error));
        })
    }

    fn write(&self, model: Option<&str>, error: Option<&Error>) {
        let Some(audit) = &self.client.access.audit else { return };
        audit.write(&Event {
            peer: self.client.address,
            identity: self.principal.name(),
            call: self.method.path,
            model,
            error,
        });
    }
}

/// The caller of a stream, which is looked at anew when its credentials have ended or the policy is
/// another: a stream may be open for long.
#[derive(Debug)]
pub struct StreamCaller {
    caller: Mutex<Caller>,
    /// The values of the header `authorization`.
    shown: Vec<Vec<u8>>,
}

impl StreamCaller {
    /// The caller of a stream that tonic answers.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let values = request.metadata().get_all(AUTHORIZATION).iter();
        let shown = values.map(|value| value.as_encoded_bytes().to_vec()).collect();
        Ok(Self { caller: Mutex::new(Caller::of(request)?), shown })
    }

    /// The caller as it is known at this time.
    pub fn now(&self) -> Caller {
        let mut caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        let Client { access, certified, .. } = &*caller.client;
        if caller.principal.is_stale(access.generation()) {
            let policy = access.policy();
            let shown = policy.credentials(self.shown.iter().map(Vec::as_slice));
            let principal = policy.principal(shown, certified.as_ref());
            caller.principal = Arc::new(principal);
        }
        caller.clone()
    }
}
