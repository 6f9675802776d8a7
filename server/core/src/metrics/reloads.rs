//! Counts of files that were read again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of times that files have changed, by the files' name. Only files that are watched
/// have counts.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<BTreeMap<&'static str, Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// The number of contents that are or were in force.
    taken: u64,
    /// The number of contents that could not be used.
    refused: u64,
}

impl Reloads {
    /// Shows counts of the files of this name from now on.
    pub fn begin(&self, name: &'static str) {
        self.lock().entry(name).or_default();
    }

    /// Counts new contents, and whether they could be used.
    pub fn count(&self, name: &'static str, is_good: bool) {
        let mut all = self.lock();
        let counts = all.entry(name).or_default();
        *if is_good { &mut counts.taken } else { &mut counts.refused } += 1;
    }

    /// Writes the counts as Prometheus reads them; nothing where no files are watched.
    pub fn write(&self, text: &mut String) {
        let all = self.lock();
        if all.is_empty() {
            return;
        }
        let name = "sigmax_reloads_total";
        let help = "Changes of files that are read again, by whether they could be used.";
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (files, Counts { taken, refused }) in &*all {
            let _ = writeln!(text, "{name}{{files=\"{files}\",result=\"taken\"}} {taken}");
            let _ = writeln!(text, "{name}{{files=\"{files}\",result=\"refused\"}} {refused}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
