//! Certificates and keys in PEM (RFC 7468), and words for what is wrong with them.

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates in a file, at least one. The error does not name the file.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let expected = "expected certificates in PEM (BEGIN CERTIFICATE)";
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| format!("{expected}, got {}", fault(&error)))?;
    match found.is_empty() {
        true => Err(format!("{expected}, got {}", kinds(text))),
        false => Ok(found),
    }
}

/// The private key in a file. The error does not name the file.
pub fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let expected = "expected a private key in PEM (BEGIN PRIVATE KEY)";
    // Older keys are encrypted under a header that says so (RFC 1421, section 4.6.1.1).
    if String::from_utf8_lossy(text).contains("ENCRYPTED") {
        let cure = "`openssl pkey -in FILE -out FILE` decrypts it";
        return Err(format!("{expected}, got an encrypted one; {cure}"));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        Error::NoItemsFound => format!("{expected}, got {}", kinds(text)),
        error => format!("{expected}, got {}", fault(&error)),
    })
}

fn fault(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { .. } => "one without its end".into(),
        error => format!("a broken one: {error}"),
    }
}

/// The kinds of things in a file, for an error.
fn kinds(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let begins = text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN "));
    let mut kinds: Vec<_> = begins.filter_map(|line| line.strip_suffix("-----")).collect();
    kinds.dedup();
    match kinds.as_slice() {
        [] if text.trim().is_empty() => "an empty file".into(),
        [] => "a file without PEM".into(),
        kinds => kinds.join(" and "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_came() {
        for (text, got) in [
            ("", "an empty file"),
            ("\u{1}\u{2}", "a file without PEM"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PRIVATE KEY"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "one without its end"),
        ] {
            let error = certificates(text.as_bytes()).expect_err(text);
            assert_eq!(
                error,
                format!("expected certificates in PEM (BEGIN CERTIFICATE), got {got}")
            );
        }
        let error = key(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let error = error.expect_err("it is no key");
        assert_eq!(error, "expected a private key in PEM (BEGIN PRIVATE KEY), got CERTIFICATE");
    }
}
