//! The audit log: a line of JSON for every refusal, and for every order to control the server.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tonic::Code;

use crate::error::{Dialect, Error};
use crate::file::words;
use crate::log::{Output, Source};
use crate::metrics::prometheus::code_name;

/// The most bytes of lines that wait to be written.
const ROOM: usize = 1 << 20;
/// The most refusals that are written in a second: strangers cannot fill a disk.
const REFUSALS: usize = 1000;
/// The most of them that are of one address: a stranger cannot hide those of others.
const OF_ONE: usize = 100;
/// The times of lines: RFC 3339, with milliseconds.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
/// The most characters of a name in a line.
const MOST_NAME: usize = 255;

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    output: &'static Output,
    /// The start of the log, from which seconds are counted: the machine's clock may be set back.
    start: Instant,
    refusals: Mutex<Refusals>,
}

/// The refusals that were written in a second.
#[derive(Debug, Default)]
struct Refusals {
    /// The second, counted from the start of the log.
    second: u64,
    all: usize,
    /// The refusals by the address of the client; none: it came over a Unix domain socket.
    of: HashMap<Option<IpAddr>, usize>,
}

/// An event that the audit log tells.
#[derive(Debug)]
pub struct Event<'a> {
    /// The address of the client; none: it came over a Unix domain socket.
    pub peer: Option<SocketAddr>,
    /// The name of the client; none where it has not shown who it is.
    pub identity: Option<&'a str>,
    /// The path of the method; empty where there is no such method.
    pub call: &'a str,
    /// The model that the call names.
    pub model: Option<&'a str>,
    /// The error; none where the call has succeeded.
    pub error: Option<&'a Error>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    peer: String,
    identity: Option<String>,
    call: &'a str,
    model: Option<String>,
    outcome: &'static str,
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Gap {
    time: String,
    dropped: u64,
}

impl Audit {
    /// The audit log in a file, or on standard error where the path is `-`. The file is made where
    /// there is none, for its owner alone.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = AuditFile { path: (path != Path::new("-")).then(|| path.into()) };
        file.open().map_err(|error| {
            let words = match error.raw_os_error() {
                Some(libc::ENXIO) => "expected a reader of this named pipe, got none".into(),
                _ => words(&error),
            };
            io::Error::new(error.kind(), format!("--audit-log: {}: {words}", path.display()))
        })?;
        // The log lives as long as the process, as its thread does.
        let output = Output::new("audit", Box::leak(Box::new(file)), ROOM, usize::MAX);
        Ok(Self {
            output: Box::leak(Box::new(output)),
            start: Instant::now(),
            refusals: Mutex::default(),
        })
    }

    /// Writes a line for an event. The caller does not wait for the file.
    pub fn write(&self, event: &Event<'_>) {
        let is_refusal =
            matches!(event.error, Some(Error::Unauthenticated(_) | Error::PermissionDenied { .. }));
        let address = event.peer.map(|peer| peer.ip());
        if is_refusal && self.is_one_too_many(self.start.elapsed().as_secs(), address) {
            return self.output.skip();
        }
        let dialect = Dialect::of(event.call);
        self.output.line(&json(&Line {
            time: now(),
            peer: event.peer.map_or_else(|| "unix".into(), |address| address.to_string()),
            identity: event.identity.map(cut),
            call: event.call,
            model: event.model.map(cut),
            outcome: code_name(event.error.map_or(Code::Ok, |error| error.code(dialect))),
            reason: event.error.map(Error::reason),
        }));
    }

    /// Waits for at most `time` until everything is written.
    pub fn finish(&self, time: Duration) {
        self.output.finish(time);
    }

    /// The number of lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.output.dropped()
    }

    /// Counts a refusal of this second, unless it is one more than are written. Returns whether it
    /// is.
    fn is_one_too_many(&self, now: u64, address: Option<IpAddr>) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that was held up comes with a second that is over. It begins no new count.
        if now > refusals.second {
            *refusals = Refusals { second: now, ..Refusals::default() };
        }
        let of_one = refusals.of.get(&address).copied().unwrap_or_default();
        if of_one >= OF_ONE || refusals.all >= REFUSALS {
            return true;
        }
        refusals.of.insert(address, of_one + 1);
        refusals.all += 1;
        false
    }
}

/// The file of an audit log.
#[derive(Debug)]
struct AuditFile {
    /// The path; none: the log goes to standard error.
    path: Option<PathBuf>,
}

impl Source for AuditFile {
    fn open(&self) -> io::Result<File> {
        match &self.path {
            // Without O_NONBLOCK, the opening of a named pipe waits for a reader.
            Some(path) => File::options()
                .append(true)
                .create(true)
                .mode(0o600)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(path),
            None => Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
        }
    }

    /// Whether the file has been moved away, as by logrotate.
    fn is_gone(&self, file: &File) -> bool {
        let Some(path) = &self.path else { return false };
        let id = |data: fs::Metadata| (data.dev(), data.ino());
        match (fs::metadata(path).map(id), file.metadata().map(id)) {
            (Ok(there), Ok(open)) => there != open,
            _ => true,
        }
    }

    fn gap(&self, lost: u64) -> String {
        json(&Gap { time: now(), dropped: lost }) + "\n"
    }
}

fn now() -> String {
    OffsetDateTime::now_utc().format(TIME).unwrap_or_default()
}

fn cut(name: &str) -> String {
    name.chars().take(MOST_NAME).collect()
}

/// A value as JSON in ASCII, which no output needs to escape.
fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_ascii() && !char.is_ascii_control() {
            line.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            line.push_str(&format!("\\u{unit:04x}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_beyond_the_most_of_a_second_are_not_written() {
        let audit = Audit::open(Path::new("/dev/null")).expect("it opens");
        let address = |number: usize| Some(IpAddr::from([127, 0, 0, number as u8]));
        for second in [7, 8] {
            for one in 0..REFUSALS / OF_ONE {
                assert!((0..OF_ONE).all(|_| !audit.is_one_too_many(second, address(one))));
                assert!(audit.is_one_too_many(second, address(one)), "as many of one address");
            }
            assert!(audit.is_one_too_many(second, None), "as many of all");
        }
        assert!(audit.is_one_too_many(7, None), "a thread that comes late");
        assert!(audit.is_one_too_many(8, None));
    }

    #[test]
    fn a_line_is_ascii_whatever_is_in_it() {
        let line = json(&("a\u{202e}b\n\u{7f}", "\u{1f600}"));
        assert_eq!(line, r#"["a\u202eb\n\u007f","\ud83d\ude00"]"#);
    }
}
