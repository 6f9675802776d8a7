//! Callers: who makes a call, over which connection, and of which method.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::{Request, Status};

use crate::access::Access;
use crate::access::audit::Event;
use crate::access::identity::Identity;
use crate::access::methods::{Entry, Method};
use crate::access::principal::Principal;
use crate::access::rules::Right;
use crate::error::{Dialect, Error, Result};

/// The client of a connection.
#[derive(Debug)]
pub struct Client {
    /// The state of access that all threads share.
    pub access: Arc<Access>,
    /// The address of the client; none: it came over a Unix domain socket.
    pub address: Option<SocketAddr>,
    /// The identity that the client's certificate says; none where it has shown none.
    pub certified: Option<Identity>,
    /// The client by its certificate, and the generation of rights that it is by.
    principal: Mutex<Option<(u64, Arc<Principal>)>>,
}

impl Client {
    /// The client of a connection that begins.
    pub fn new(
        access: Arc<Access>,
        address: Option<SocketAddr>,
        certificate: Option<&[u8]>,
    ) -> Self {
        let certified = certificate.and_then(Identity::of_certificate);
        Self { access, address, certified, principal: Mutex::default() }
    }

    /// The client by its certificate; `make` makes it where the one that is kept is of another
    /// generation.
    pub fn by_certificate(
        &self,
        generation: u64,
        make: impl FnOnce() -> Principal,
    ) -> Arc<Principal> {
        let mut kept = self.principal.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, principal)) if *of == generation => principal.clone(),
            _ => kept.insert((generation, Arc::new(make()))).1.clone(),
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
