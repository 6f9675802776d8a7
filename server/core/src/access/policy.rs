//! The policy in force: the credentials and the rules that the server's files have.

use std::sync::Arc;
use std::time::SystemTime;

use crate::access::identity::Identity;
use crate::access::jwt::Keys;
use crate::access::options::JwtOptions;
use crate::access::principal::Principal;
use crate::access::rules::{Grants, Rules};
use crate::access::tokens::Tokens;
use crate::error::Unauthenticated;

/// The most bytes of a token, as the metadata of a call may have them.
const MOST_TOKEN: usize = 16 << 10;

/// The policy in force. Each part is none where the server has no such file.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The tokens of clients.
    pub tokens: Option<Arc<Tokens>>,
    /// The keys of those who issue JSON Web Tokens, and what such tokens must say.
    pub keys: Option<(Arc<JwtOptions>, Arc<Keys>)>,
    /// The rules of who may do what.
    pub rules: Option<Arc<Rules>>,
}

impl Policy {
    /// Whether clients can show tokens of any kind.
    pub fn takes_tokens(&self) -> bool {
        self.tokens.is_some() || self.keys.is_some()
    }

    /// A client with its rights.
    pub fn principal(&self, identity: Identity) -> Principal {
        let grants = match &self.rules {
            Some(rules) => rules.grants_to(&identity),
            None => Grants::without_table(),
        };
        Principal::Known { identity, grants }
    }

    /// The client whose token a header's value has, and the time at which the token ends; none: it
    /// does not end.
    pub fn by_header(
        &self,
        value: &[u8],
    ) -> Result<(Identity, Option<SystemTime>), Unauthenticated> {
        let (scheme, token) = value.split_at_checked(7).ok_or(Unauthenticated::NotBearer)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(Unauthenticated::NotBearer);
        }
        let token = token.trim_ascii();
        if token.len() > MOST_TOKEN {
            return Err(Unauthenticated::BadToken);
        }
        if let Some(name) = self.tokens.as_ref().and_then(|tokens| tokens.name(token)) {
            return Ok((Identity::named(name), None));
        }
        let (options, keys) = self.keys.as_ref().ok_or(Unauthenticated::BadToken)?;
        let token = str::from_utf8(token).map_err(|_| Unauthenticated::BadToken)?;
        let (identity, until) = keys.client(options, token)?;
        Ok((identity, Some(until)))
    }
}
