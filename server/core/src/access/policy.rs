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

/// The most bytes of a token that comes.
const MOST_TOKEN: usize = 16 << 10;

/// The policy in force. Each part is none where the server has no such file.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The number of policies that were in force before.
    pub generation: u64,
    /// The tokens of clients.
    pub tokens: Option<Arc<Tokens>>,
    /// The keys of those who issue JSON Web Tokens, and what such tokens must say.
    pub keys: Option<(Arc<JwtOptions>, Arc<Keys>)>,
    /// The rules of who may do what.
    pub rules: Option<Arc<Rules>>,
}

/// The credentials that a call has in its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// None that the server takes: the certificate of the connection says who calls.
    Absent,
    /// A token.
    Token(&'a [u8]),
    /// Credentials that cannot be right.
    Wrong(Unauthenticated),
}

impl Policy {
    /// The next policy: this one with the parts that have been read anew.
    pub fn with(&self, read: Self) -> Self {
        Self {
            generation: self.generation + 1,
            tokens: read.tokens.or_else(|| self.tokens.clone()),
            keys: read.keys.or_else(|| self.keys.clone()),
            rules: read.rules.or_else(|| self.rules.clone()),
        }
    }

    /// The credentials in the values of the header `authorization`.
    pub fn credentials<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>) -> Credentials<'a> {
        let takes_tokens = self.tokens.is_some() || self.keys.is_some();
        match (values.next().filter(|_| takes_tokens), values.next()) {
            (None, _) => Credentials::Absent,
            (Some(_), Some(_)) => Credentials::Wrong(Unauthenticated::SeveralCredentials),
            (Some(value), None) => match value.split_at_checked(7) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
                    match token.trim_ascii() {
                        // Nothing is done for a token that is too long, not even to hash it.
                        token if token.len() > MOST_TOKEN => {
                            Credentials::Wrong(Unauthenticated::BadToken)
                        }
                        token => Credentials::Token(token),
                    }
                }
                _ => Credentials::Wrong(Unauthenticated::NotBearer),
            },
        }
    }

    /// The principal that credentials show, beside the identity of a certificate.
    pub fn principal(&self, shown: Credentials<'_>, certified: Option<&Identity>) -> Principal {
        let known = match shown {
            Credentials::Token(token) => self.owner(token),
            Credentials::Wrong(reason) => Err(reason),
            Credentials::Absent => match certified {
                Some(identity) => Ok((identity.clone(), None)),
                None => Err(Unauthenticated::NoCredentials),
            },
        };
        match known {
            Err(reason) => Principal::Unknown(reason),
            Ok((identity, until)) => {
                let grants = match &self.rules {
                    Some(rules) => rules.grants_to(&identity),
                    None => Grants::without_table(),
                };
                Principal::Known { identity, grants, until, generation: self.generation }
            }
        }
    }

    /// The client whose token this is, and the time at which the token ends; none: it does not end.
    fn owner(&self, token: &[u8]) -> Result<(Identity, Option<SystemTime>), Unauthenticated> {
        if let Some(name) = self.tokens.as_ref().and_then(|tokens| tokens.name(token)) {
            return Ok((Identity::named(name), None));
        }
        let (options, keys) = self.keys.as_ref().ok_or(Unauthenticated::BadToken)?;
        let token = str::from_utf8(token).map_err(|_| Unauthenticated::BadToken)?;
        let (identity, until) = keys.client(options, token)?;
        Ok((identity, Some(until)))
    }
}
