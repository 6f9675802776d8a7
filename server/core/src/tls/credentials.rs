//! The credentials of a server, from its files: certificate, key, and the authorities of clients.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

use crate::tls::TlsOptions;
use crate::tls::pem;

/// The most bytes of a file of credentials.
pub const FILE_BYTES: u64 = 1 << 20;

/// The credentials of a server, which fit each other.
#[derive(Debug)]
pub struct Credentials {
    /// The server's certificate with its key.
    pub key: Arc<CertifiedKey>,
    /// The authorities of clients' certificates; none: clients are asked for no certificate.
    pub authorities: Option<Arc<RootCertStore>>,
    /// The time after which the server's certificate is not valid, in seconds since 1970.
    pub expiry: i64,
}

/// The credentials in the contents of the files, which come in the order of the options' paths. The
/// error names the file. A certificate that clients will not take, because of its time, is a warning.
pub fn read(
    options: &TlsOptions,
    provider: &CryptoProvider,
    contents: &[Vec<u8>],
) -> Result<Credentials, String> {
    let [certificate, key, authorities @ ..] = contents else {
        return Err("expected a certificate and a key".into());
    };
    let chain = pem::certificates(certificate).map_err(of(&options.certificate))?;
    let expiry = check(&chain).map_err(of(&options.certificate))?;
    let key = pem::key(key).map_err(of(&options.key))?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
            "{}: the key does not fit the first certificate in {}",
            options.key.display(),
            options.certificate.display()
        ),
        error => of(&options.key)(format!("the key cannot be used: {error}")),
    })?;
    let authorities = options.client_ca.as_deref().zip(authorities.first());
    let authorities = authorities.map(|(path, text)| trusted(text).map_err(of(path)));
    if let Some(problem) = problem_with_time(key.cert.first()) {
        tracing::warn!("{}: {problem}", options.certificate.display());
    }
    Ok(Credentials {
        key: Arc::new(key),
        authorities: authorities.transpose()?.map(Arc::new),
        expiry,
    })
}

/// Puts the file's path before an error.
fn of(path: &Path) -> impl Fn(String) -> String {
    move |error| format!("{}: {error}", path.display())
}

/// Checks that certificates can be read. Returns the time after which the first one is not valid.
fn check(chain: &[CertificateDer<'_>]) -> Result<i64, String> {
    let mut times = Vec::new();
    for (number, certificate) in chain.iter().enumerate() {
        let (_, read) = parse_x509_certificate(certificate).map_err(|error| {
            format!("certificate {} of {} cannot be read: {error}", number + 1, chain.len())
        })?;
        times.push(read.validity().not_after.timestamp());
    }
    times.first().copied().ok_or_else(|| "expected a certificate".into())
}

/// The problem with a certificate at this time; none where it is valid now.
fn problem_with_time(certificate: Option<&CertificateDer<'_>>) -> Option<String> {
    let (_, read) = parse_x509_certificate(certificate?).ok()?;
    let (validity, now) = (read.validity(), ASN1Time::now());
    if now > validity.not_after {
        let end = validity.not_after;
        return Some(format!("the certificate expired on {end}; clients will refuse it"));
    }
    let begin = validity.not_before;
    (now < begin).then(|| {
        format!("the certificate is not valid before {begin}; clients will refuse it until then")
    })
}

/// Whether a certificate is valid at this time.
pub fn is_in_time(certificate: &CertificateDer<'_>) -> bool {
    parse_x509_certificate(certificate).is_ok_and(|(_, read)| read.validity().is_valid())
}

fn trusted(text: &[u8]) -> Result<RootCertStore, String> {
    let certificates = pem::certificates(text)?;
    check(&certificates)?;
    let mut authorities = RootCertStore::empty();
    for certificate in certificates {
        let added = authorities.add(certificate);
        added.map_err(|error| format!("a certificate is no authority's: {error}"))?;
    }
    Ok(authorities)
}
