//! Counts of TLS.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A kind of failure of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client closed the connection, or it broke.
    Closed,
    /// What came is not TLS.
    NotTls,
    /// The client and the server have no version, method or protocol in common.
    Incompatible,
    /// The client has shown no certificate, or one that is not trusted.
    ClientCertificate,
    /// The client refused, as when it does not trust the server's certificate.
    Alert,
    /// The client broke the rules of TLS in another way.
    Other,
}

impl Failure {
    /// All kinds, with their names in the metric's label.
    const ALL: [(Self, &str); 6] = [
        (Self::Closed, "closed"),
        (Self::NotTls, "not_tls"),
        (Self::Incompatible, "incompatible"),
        (Self::ClientCertificate, "client_certificate"),
        (Self::Alert, "alert"),
        (Self::Other, "other"),
    ];
}

/// The counts of TLS, and the end of the server's certificate.
#[derive(Debug, Default)]
pub struct TlsMetrics {
    /// Full handshakes.
    full: AtomicU64,
    /// Handshakes that resumed an earlier session.
    resumed: AtomicU64,
    failed: [AtomicU64; Failure::ALL.len()],
    /// The time after which the server's certificate is not valid, in seconds since 1970.
    expiry: AtomicI64,
}

impl TlsMetrics {
    /// Counts of no handshake yet, beside a certificate that is valid until then.
    pub fn new(expiry: i64) -> Self {
        Self { expiry: expiry.into(), ..Self::default() }
    }

    /// Counts a handshake that has come to its end.
    pub fn shaken(&self, is_resumed: bool) {
        if is_resumed { &self.resumed } else { &self.full }.fetch_add(1, Relaxed);
    }

    /// Counts a handshake that has failed.
    pub fn failed(&self, failure: Failure) {
        self.failed[failure as usize].fetch_add(1, Relaxed);
    }

    /// Notes the time after which the server's certificate is not valid, in seconds since 1970.
    pub fn set_expiry(&self, expiry: i64) {
        self.expiry.store(expiry, Relaxed);
    }

    /// Writes the counts as Prometheus reads them.
    pub fn write(&self, text: &mut String) {
        let name = "sigmax_tls_certificate_expiry_seconds";
        let help = "Time after which the server's certificate is not valid, in Unix time.";
        let expiry = self.expiry.load(Relaxed);
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {expiry}");
        let name = "sigmax_tls_handshakes_total";
        let help = "Handshakes of TLS, full ones and those that resumed an earlier session.";
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (kind, count) in [("full", &self.full), ("resumed", &self.resumed)] {
            let _ = writeln!(text, "{name}{{kind=\"{kind}\"}} {}", count.load(Relaxed));
        }
        let name = "sigmax_tls_handshakes_failed_total";
        let help = "Handshakes of TLS that failed, by reason.";
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (failure, reason) in Failure::ALL {
            let count = self.failed[failure as usize].load(Relaxed);
            let _ = writeln!(text, "{name}{{reason=\"{reason}\"}} {count}");
        }
    }
}
