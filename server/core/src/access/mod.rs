//! Who clients are, and what they may do.
//!
//! A client shows a token, a JSON Web Token or a certificate. These make a [`principal`] with its
//! rights, by the [`policy`] that the server's files have. A [`caller`] is the principal of one call.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, PoisonError, RwLock};

use crate::access::audit::Audit;
use crate::access::jwt::Keys;
use crate::access::options::{AccessOptions, JwtKeys};
use crate::access::policy::Policy;
use crate::access::rules::Rules;
use crate::access::tokens::Tokens;
use crate::metrics::access::AccessMetrics;

pub mod audit;
pub mod caller;
pub mod checks;
pub mod identity;
pub mod jwt;
pub mod methods;
pub mod options;
pub mod policy;
pub mod principal;
pub mod principals;
pub mod rules;
pub mod tokens;

/// The most bytes of each of the files.
pub const FILE_BYTES: u64 = 4 << 20;

/// The state of access that all threads share.
#[derive(Debug)]
pub struct Access {
    options: AccessOptions,
    /// Whether clients' certificates say who they are.
    certificates: bool,
    policy: RwLock<Arc<Policy>>,
    /// The generation of the policy in force.
    generation: AtomicU64,
    /// The audit log; none where there is none.
    pub audit: Option<Audit>,
    /// The counts of refusals.
    pub metrics: Arc<AccessMetrics>,
}

/// A file of the policy.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// The tokens of clients.
    Tokens,
    /// The keys of those who issue JSON Web Tokens.
    Keys,
    /// The table of who may do what.
    Rules,
}

impl Part {
    /// The part's name in the log and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Keys => "jwt_keys",
            Self::Rules => "access",
        }
    }
}

impl Access {
    /// The state with no policy yet. Opens the audit log.
    pub fn new(options: AccessOptions, certificates: bool) -> io::Result<Self> {
        let audit = options.audit_log.as_deref().map(Audit::open).transpose()?;
        Ok(Self {
            options,
            certificates,
            policy: RwLock::default(),
            generation: AtomicU64::new(0),
            audit,
            metrics: Arc::default(),
        })
    }

    /// Whether clients have to show who they are.
    pub fn asks(&self) -> bool {
        self.options.token_file.is_some() || self.options.jwt.is_some() || self.certificates
    }

    /// The files of the policy, with the flags that name them.
    pub fn parts(&self) -> Vec<(Part, &'static str, PathBuf)> {
        let AccessOptions { token_file, jwt, access, .. } = &self.options;
        let keys = jwt.as_ref().map(|jwt| match &jwt.keys {
            JwtKeys::Set(path) => (Part::Keys, "--jwt-jwks", path),
            JwtKeys::Pem(path) => (Part::Keys, "--jwt-public-key", path),
        });
        let parts = [
            token_file.as_ref().map(|path| (Part::Tokens, "--token-file", path)),
            keys,
            access.as_ref().map(|path| (Part::Rules, "--access", path)),
        ];
        parts.into_iter().flatten().map(|(part, flag, path)| (part, flag, path.clone())).collect()
    }

    /// Takes the contents of a part into the policy in force, where they are right. The error does
    /// not name the file.
    pub fn take(&self, part: Part, contents: &[u8]) -> Result<(), String> {
        let text = || str::from_utf8(contents).map_err(|_| "expected text in UTF-8".to_owned());
        // Shards that look at the policy wait for no reading of a long file.
        let mut read = Policy::default();
        match part {
            Part::Tokens => read.tokens = Some(Arc::new(Tokens::parse(text()?)?)),
            Part::Rules => read.rules = Some(Arc::new(Rules::parse(text()?)?)),
            Part::Keys => {
                let jwt = self.options.jwt.as_ref().ok_or("expected options of the keys")?;
                let keys = Keys::parse(jwt, contents)?;
                read.keys = Some((Arc::new(jwt.clone()), Arc::new(keys)));
            }
        }
        let mut policy = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        *policy = Arc::new(policy.with(read));
        self.generation.store(policy.generation, Release);
        Ok(())
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The generation of the policy in force.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// A line for people that says who may do what.
    pub fn summary(&self) -> String {
        if !self.asks() {
            return "access: anybody who reaches this server".into();
        }
        let policy = self.policy();
        let count = |number: usize, what: &str| {
            format!("{number} {what}{}", if number == 1 { "" } else { "s" })
        };
        let tokens = policy.tokens.as_ref().map(|tokens| count(tokens.count(), "token"));
        let keys = policy.keys.as_ref().map(|(jwt, keys)| {
            let of = jwt.issuer.as_ref().map_or_else(String::new, |issuer| format!(" of {issuer}"));
            format!("JSON Web Tokens{of} by {}", count(keys.count(), "key"))
        });
        let certificates = self.certificates.then(|| "certificates of clients".to_owned());
        let credentials: Vec<_> = [tokens, keys, certificates].into_iter().flatten().collect();
        let file = self.options.access.as_deref().and_then(Path::file_name);
        let rights = match (&policy.rules, file) {
            (Some(rules), Some(file)) => {
                format!("rights by {} in {}", count(rules.count(), "rule"), file.display())
            }
            _ => "all may ask every model, none may control".into(),
        };
        format!("access: {}; {rights}", credentials.join(", "))
    }
}
