//! Counts of callers that were refused.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::Error;

/// The reasons of UNAUTHENTICATED.
const REASONS: [&str; 3] = ["NO_CREDENTIALS", "BAD_TOKEN", "TOKEN_EXPIRED"];
/// The rights that are refused.
const RIGHTS: [&str; 4] = ["classify", "infer", "describe", "control"];

/// The counts of callers that were refused.
#[derive(Debug, Default)]
pub struct AccessMetrics {
    unauthenticated: [AtomicU64; REASONS.len()],
    denied: [AtomicU64; RIGHTS.len()],
}

impl AccessMetrics {
    /// Counts a refusal.
    pub fn count(&self, error: &Error) {
        let (counts, names, name) = match error {
            Error::PermissionDenied { right, .. } => (&self.denied[..], &RIGHTS[..], *right),
            error => (&self.unauthenticated[..], &REASONS[..], error.reason()),
        };
        let place = names.iter().position(|known| *known == name);
        if let Some(count) = place.and_then(|place| counts.get(place)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Writes the counts as Prometheus reads them.
    pub fn write(&self, text: &mut String) {
        let name = "sigmax_unauthenticated_total";
        let help = "Calls refused because their callers have not shown who they are, by reason.";
        write(text, (name, help), "reason", REASONS.iter().zip(&self.unauthenticated));
        let name = "sigmax_permission_denied_total";
        let help = "Requests refused because their callers lack a right, by right.";
        write(text, (name, help), "right", RIGHTS.iter().zip(&self.denied));
    }
}

fn write<'a>(
    text: &mut String,
    (name, help): (&str, &str),
    label: &str,
    counts: impl Iterator<Item = (&'a &'static str, &'a AtomicU64)>,
) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
    for (value, count) in counts {
        let _ = writeln!(text, "{name}{{{label}=\"{value}\"}} {}", count.load(Relaxed));
    }
}
