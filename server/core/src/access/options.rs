//! The ways in which clients say who they are, as the server is told of them.

use std::path::PathBuf;
use std::time::Duration;

/// The ways in which clients say who they are, and what they may do then.
#[derive(Clone, Debug, Default)]
pub struct AccessOptions {
    /// The file of clients' tokens.
    pub token_file: Option<PathBuf>,
    /// JSON Web Tokens; none: they are not taken.
    pub jwt: Option<JwtOptions>,
    /// The table of who may do what; none: everybody who is known may ask, and nobody may control.
    pub access: Option<PathBuf>,
    /// The file of the audit log; `-`: standard error; none: there is no audit log.
    pub audit_log: Option<PathBuf>,
}

/// The JSON Web Tokens that are taken.
#[derive(Clone, Debug)]
pub struct JwtOptions {
    /// The issuers' public keys.
    pub keys: JwtKeys,
    /// The audience that a token must name.
    pub audience: String,
    /// The issuer that a token must name; none: any.
    pub issuer: Option<String>,
    /// The names of the algorithms by which tokens may be signed, such as `ES256`.
    pub algorithms: Vec<String>,
    /// The most time by which a token's clock and the server's may differ.
    pub leeway: Duration,
    /// The claim that names the client.
    pub name_claim: String,
    /// The claim that names the client's groups.
    pub groups_claim: String,
}

/// The file of the public keys of those who issue JSON Web Tokens.
#[derive(Clone, Debug)]
pub enum JwtKeys {
    /// A JWK set (RFC 7517).
    Set(PathBuf),
    /// One key in PEM.
    Pem(PathBuf),
}
