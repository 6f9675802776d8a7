//! The principals of one shard's calls, found by their credentials.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, header};

use crate::access::Access;
use crate::access::caller::Client;
use crate::access::policy::Policy;
use crate::access::principal::Principal;
use crate::error::Unauthenticated;

/// The most credentials that a shard keeps. Each has been good, and is kept so that it need not be
/// checked again.
const KEPT: usize = 4096;

/// The principals of one shard's calls.
#[derive(Debug)]
pub struct Principals {
    access: Arc<Access>,
    policy: RefCell<Arc<Policy>>,
    generation: Cell<u64>,
    /// Principals by the value of the header that has shown them.
    kept: RefCell<HashMap<Box<[u8]>, Kept>>,
    anybody: Arc<Principal>,
}

#[derive(Debug)]
struct Kept {
    principal: Arc<Principal>,
    /// The time at which the credentials end; none: they do not.
    until: Option<SystemTime>,
}

impl Kept {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= SystemTime::now())
    }
}

impl Principals {
    /// The principals of one shard.
    pub fn new(access: Arc<Access>) -> Self {
        let (generation, policy) = access.policy();
        Self {
            access,
            policy: RefCell::new(policy),
            generation: Cell::new(generation),
            kept: RefCell::default(),
            anybody: Arc::new(Principal::Anybody),
        }
    }

    /// The principal of a call with these headers. A token says who calls, where one is sent;
    /// otherwise the certificate of the connection's client does.
    pub fn find(&self, client: &Client, headers: &HeaderMap) -> Arc<Principal> {
        if !self.access.asks() {
            return self.anybody.clone();
        }
        self.renew();
        let policy = self.policy.borrow();
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        match (values.next().filter(|_| policy.takes_tokens()), values.next()) {
            (None, _) => client.by_certificate(self.generation.get(), || match &client.certified {
                Some(identity) => policy.principal(identity.clone()),
                None => Principal::Unknown(Unauthenticated::NoCredentials),
            }),
            (Some(value), None) => self.by_header(&policy, value),
            (Some(_), Some(_)) => Arc::new(Principal::Unknown(Unauthenticated::SeveralCredentials)),
        }
    }

    /// Takes the policy that is in force, and drops what was kept by another one.
    fn renew(&self) {
        if self.generation.get() != self.access.generation() {
            let (generation, policy) = self.access.policy();
            self.generation.set(generation);
            self.policy.replace(policy);
            self.kept.borrow_mut().clear();
        }
    }

    fn by_header(&self, policy: &Policy, value: &HeaderValue) -> Arc<Principal> {
        let mut kept = self.kept.borrow_mut();
        match kept.get(value.as_bytes()) {
            Some(known) if !known.is_over() => return known.principal.clone(),
            Some(_) => drop(kept.remove(value.as_bytes())),
            None => {}
        }
        match policy.by_header(value.as_bytes()) {
            Ok((identity, until)) => {
                let principal = Arc::new(policy.principal(identity));
                if kept.len() >= KEPT {
                    kept.clear();
                }
                let known = Kept { principal: principal.clone(), until };
                kept.insert(value.as_bytes().into(), known);
                principal
            }
            // Refused credentials are not kept: their number has no bound.
            Err(reason) => Arc::new(Principal::Unknown(reason)),
        }
    }
}
