//! The principals of one shard's calls, found by their credentials.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use crate::access::Access;
use crate::access::caller::Client;
use crate::access::policy::{Credentials, Policy};
use crate::access::principal::Principal;
use crate::access::tokens::{Hash, hash};

/// The most tokens that a shard keeps. Each has been good, and is kept so that it need not be checked
/// again.
const KEPT: usize = 4096;

/// The principals of one shard's calls.
#[derive(Debug)]
pub struct Principals {
    access: Arc<Access>,
    policy: RefCell<Arc<Policy>>,
    /// Principals by the hashes of their tokens: the table has no secrets, and little of each token.
    kept: RefCell<HashMap<Hash, Arc<Principal>>>,
    anybody: Arc<Principal>,
}

impl Principals {
    /// The principals of one shard.
    pub fn new(access: Arc<Access>) -> Self {
        let policy = RefCell::new(access.policy());
        let anybody = Arc::new(Principal::Anybody);
        Self { access, policy, kept: RefCell::default(), anybody }
    }

    /// The principal of a call with these headers. A token says who calls, where one is sent;
    /// otherwise the certificate of the connection's client does.
    pub fn find(&self, client: &Client, headers: &HeaderMap) -> Arc<Principal> {
        if !self.access.asks() {
            return self.anybody.clone();
        }
        if self.policy.borrow().generation != self.access.generation() {
            self.policy.replace(self.access.policy());
            self.kept.borrow_mut().clear();
        }
        let policy = self.policy.borrow();
        let values = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        match policy.credentials(values) {
            Credentials::Token(token) => self.by_token(&policy, token),
            Credentials::Absent => client.by_certificate(&policy),
            wrong => Arc::new(policy.principal(wrong, None)),
        }
    }

    fn by_token(&self, policy: &Policy, token: &[u8]) -> Arc<Principal> {
        let mut kept = self.kept.borrow_mut();
        let hash = hash(token);
        if let Some(known) = kept.get(&hash).filter(|known| !known.is_over()) {
            return known.clone();
        }
        let principal = Arc::new(policy.principal(Credentials::Token(token), None));
        kept.remove(&hash);
        // Refused tokens are not kept: their number has no bound.
        if principal.is_known().is_ok() {
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(hash, principal.clone());
        }
        principal
    }
}
