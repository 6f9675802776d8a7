//! The principals of one shard's calls, found by their credentials.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use crate::access::Access;
use crate::access::caller::Client;
use crate::access::checks::Checks;
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
    checks: Rc<Checks>,
    anybody: Arc<Principal>,
}

impl Principals {
    /// The principals of one shard.
    pub fn new(access: Arc<Access>) -> Self {
        let policy = RefCell::new(access.policy());
        let anybody = Arc::new(Principal::Anybody);
        Self { access, policy, kept: RefCell::default(), checks: Rc::default(), anybody }
    }

    /// The principal of a call with these headers; none where it has a token that is to be checked
    /// first. A token says who calls, where one is sent; otherwise the certificate of the
    /// connection's client does.
    pub fn find(&self, client: &Client, headers: &HeaderMap) -> Option<Arc<Principal>> {
        if !self.access.asks() {
            return Some(self.anybody.clone());
        }
        if self.policy.borrow().generation != self.access.generation() {
            self.policy.replace(self.access.policy());
            self.kept.borrow_mut().clear();
        }
        let policy = self.policy.borrow();
        match policy.credentials(shown(headers)) {
            Credentials::Token(token) => {
                let kept = self.kept.borrow();
                kept.get(&hash(token)).filter(|known| !known.is_over()).cloned()
            }
            Credentials::Absent => Some(client.by_certificate(&policy)),
            wrong => Some(Arc::new(policy.principal(wrong, None))),
        }
    }

    /// The principal of a call with these headers, whose token is checked when there is room for
    /// that.
    pub async fn check(&self, client: &Client, headers: &HeaderMap) -> Arc<Principal> {
        // A connection has one check at a time: a client with many calls waits behind itself.
        let _turn = client.checking.lock().await;
        if let Some(known) = self.find(client, headers) {
            return known;
        }
        self.checks.room().await;
        let policy = self.policy.borrow();
        let shown = policy.credentials(shown(headers));
        let principal = Arc::new(policy.principal(shown, None));
        if let Credentials::Token(token) = shown {
            self.keep(hash(token), &principal);
        }
        principal
    }

    /// Keeps the principal of a token. Refused tokens are not kept: their number has no bound.
    fn keep(&self, hash: Hash, principal: &Arc<Principal>) {
        let mut kept = self.kept.borrow_mut();
        kept.remove(&hash);
        if principal.is_known().is_ok() {
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(hash, principal.clone());
        }
    }
}

/// The values of the header that shows who calls.
fn shown(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes)
}
