//! The repeats of log lines: lines that one log statement writes again and again are counted
//! instead.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The most warnings or errors of one log statement that are written in a span.
const LINES: u64 = 10;
/// Time of a span. The lines beyond those that are written are counted, and told at the span's end.
pub const SPAN: Duration = Duration::from_secs(10);
/// The most characters that are shown of a counted message.
const CHARS: usize = 200;

/// The places of the log statements that have written.
static PLACES: LazyLock<Mutex<HashMap<Identifier, Place>>> = LazyLock::new(Mutex::default);

#[derive(Debug)]
struct Place {
    /// The time at which the span began.
    since: Instant,
    /// The lines in this span.
    lines: u64,
    /// One of the messages that were counted in this span.
    message: String,
}

impl Place {
    /// Begins the next span. Returns the number of lines that were only counted, and one of their
    /// messages; none where all were written.
    fn begin(&mut self, now: Instant) -> Option<(u64, String)> {
        let counted = self.lines.saturating_sub(LINES);
        (self.since, self.lines) = (now, 0);
        (counted > 0).then(|| (counted, std::mem::take(&mut self.message)))
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= SPAN
    }
}

fn lock() -> MutexGuard<'static, HashMap<Identifier, Place>> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a message is only to be counted, because its log statement has written so many in this
/// span. News and details are always written, for somebody has asked for them.
pub fn is_one_too_many(event: &Event<'_>) -> bool {
    let metadata = event.metadata();
    if *metadata.level() > Level::WARN || metadata.target() == module_path!() {
        return false;
    }
    let now = Instant::now();
    let mut places = lock();
    let place = places.entry(metadata.callsite()).or_insert_with(|| Place {
        since: now,
        lines: 0,
        message: String::new(),
    });
    let told = if place.is_over(now) { place.begin(now) } else { None };
    place.lines += 1;
    let lines = place.lines;
    // The lock is given back first: the code that writes and formats may log or panic, which takes
    // it again.
    drop(places);
    told.into_iter().for_each(tell);
    if lines == LINES + 1 {
        let mut message = String::new();
        event.record(&mut Message(&mut message));
        if let Some(place) = lock().get_mut(&metadata.callsite()) {
            place.message = message;
        }
    }
    lines > LINES
}

/// Tells the lines that were counted in spans that are over at `now`.
pub fn tell_repeats(now: Instant) {
    let over = |place: &mut Place| if place.is_over(now) { place.begin(now) } else { None };
    let told: Vec<_> = lock().values_mut().filter_map(over).collect();
    told.into_iter().for_each(tell);
}

fn tell((lines, message): (u64, String)) {
    tracing::warn!("{lines} more lines like this one in {SPAN:?}: {message}");
}

/// A visitor that reads the message of an event.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let mut text = String::new();
            let _ = write!(text, "{value:?}");
            *self.0 = text.chars().take(CHARS).collect();
        }
    }
}
