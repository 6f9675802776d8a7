//! TLS and tokens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderValue;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::error::{Code, Error, Result};

/// How the client speaks TLS. The files, all in PEM, are read when a client is made.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    authority: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    server_name: Option<String>,
}

impl Tls {
    /// TLS that trusts the authorities that the operating system trusts.
    pub fn system() -> Self {
        Self::default()
    }

    /// TLS that trusts the authorities in this file, and no others.
    pub fn authority(file: impl Into<PathBuf>) -> Self {
        Self { authority: Some(file.into()), ..Self::default() }
    }

    /// Shows the server this certificate, which proves by this key who the client is.
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Expects this name in the server's certificate, in place of the address's host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The name that the certificate of a server of this host must have.
    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let wrong = |_| wrong("tls", format!("expected a server's name, got {name:?}"));
        ServerName::try_from(name.to_owned()).map_err(wrong)
    }

    /// The name that requests give the server; none for its address.
    pub(crate) fn given_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// What makes sessions, from the files.
    pub(crate) fn connector(&self) -> Result<TlsConnector> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("tls", error))?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| {
                    wrong(
                        "tls",
                        format!("{} and {}: {error}", certificate.display(), key.display()),
                    )
                })?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config).into())
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.authority {
            Some(file) => {
                for certificate in certificates(file)? {
                    let cannot = |error| wrong("tls", format!("{}: {error}", file.display()));
                    roots.add(certificate).map_err(cannot)?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let errors = found.errors;
                    return Err(wrong("tls", format!("no authorities of the system: {errors:?}")));
                }
            }
        }
        Ok(roots)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let cannot = |error| wrong("tls", format!("{}: {error}", file.display()));
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(cannot)?;
    match found.is_empty() {
        true => Err(wrong("tls", format!("{}: expected a certificate in PEM", file.display()))),
        false => Ok(found),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>> {
    let cannot = |error| wrong("tls", format!("{}: {error}", file.display()));
    PrivateKeyDer::from_pem_file(file).map_err(cannot)
}

fn wrong(option: &str, problem: impl fmt::Display) -> Error {
    Error::in_field(option, "BAD_CREDENTIALS", problem)
}

/// The token that goes with every call: `authorization: Bearer TOKEN`.
#[derive(Clone)]
pub struct Token(Source);

#[derive(Clone)]
enum Source {
    Text(HeaderValue),
    Function(Arc<Make>),
}

/// A function that makes a token.
type Make = dyn Fn() -> std::result::Result<String, Failure> + Send + Sync;

/// An error of any kind.
type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Token {
    /// A token that stays the same.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT where the text is empty or has characters that a header cannot have.
    pub fn text(token: impl AsRef<str>) -> Result<Self> {
        header(token.as_ref()).map(|header| Self(Source::Text(header)))
    }

    /// A token that this function returns. The function is called for every call, on the thread
    /// that makes the call, and must not take long; its error is the call's, UNAUTHENTICATED.
    pub fn function<E: Into<Failure>>(
        token: impl Fn() -> std::result::Result<String, E> + Send + Sync + 'static,
    ) -> Self {
        Self(Source::Function(Arc::new(move || token().map_err(Into::into))))
    }

    /// The value of the header for the next call.
    pub(crate) fn header(&self) -> Result<HeaderValue> {
        match &self.0 {
            Source::Text(header) => Ok(header.clone()),
            Source::Function(make) => {
                let failed = |error| {
                    let message = format!("the token cannot be made: {error}");
                    Error::new(Code::Unauthenticated, message).because("BAD_CREDENTIALS")
                };
                header(&make().map_err(failed)?)
            }
        }
    }
}

/// The value is not kept in HTTP/2's table of headers, where the length of others would tell of it.
fn header(token: &str) -> Result<HeaderValue> {
    let is_right = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| is_right);
    let mut value = value.ok_or_else(|| wrong("token", "expected visible characters of ASCII"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self.0 {
            Source::Text(_) => "Token::text(..)",
            Source::Function(_) => "Token::function(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::text("secret").expect("a token");
        assert_eq!(token.header().expect("a header"), "Bearer secret");
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_and_not_shown() {
        for text in ["", "a b", "a\n", "gr\u{fc}n"] {
            let error = Token::text(text).expect_err("an error");
            assert_eq!(error.reason(), "BAD_CREDENTIALS");
            assert_eq!(error.message(), "token: expected visible characters of ASCII");
        }
    }

    #[test]
    fn the_error_of_a_function_is_the_calls() {
        let error = Token::function(|| Err("no file")).header().expect_err("an error");
        assert_eq!(error.code(), Code::Unauthenticated);
        assert!(error.message().ends_with("no file"));
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let error = Tls::authority("/missing.pem").connector().err().expect("an error");
        assert_eq!(error.reason(), "BAD_CREDENTIALS");
        assert!(error.message().contains("/missing.pem"), "{error}");
    }

    #[test]
    fn a_server_must_have_a_name() {
        assert!(Tls::system().name("localhost").is_ok());
        assert!(Tls::system().server_name("a b").name("localhost").is_err());
    }
}
