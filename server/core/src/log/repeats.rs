//! Lines that one place of the source logs again and again are counted, not repeated.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Warnings or errors of one log statement that are written in a span.
const LINES: u64 = 10;
/// A span of time. Lines over those that are written are counted, and told at its end.
pub const SPAN: Duration = Duration::from_secs(10);
/// What is shown of a message that was counted.
const CHARS: usize = 200;

/// A place for each log statement that has written.
static PLACES: LazyLock<Mutex<HashMap<Identifier, Place>>> = LazyLock::new(Mutex::default);

#[derive(Debug)]
struct Place {
    /// When its span has begun.
    since: Instant,
    /// Lines in this span.
    lines: u64,
    /// One of the messages that were counted.
    message: String,
}

impl Place {
    /// What it counted, to be told; and its next span begins.
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

/// Whether a message is only counted, because its place has logged so many lately. Details, which
/// somebody has asked for, are never.
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
    // What writes and formats may log or panic, which asks for the lock again.
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

/// Tells what was counted in spans that are over at this time.
pub fn tell_repeats(now: Instant) {
    let over = |place: &mut Place| if place.is_over(now) { place.begin(now) } else { None };
    let told: Vec<_> = lock().values_mut().filter_map(over).collect();
    told.into_iter().for_each(tell);
}

fn tell((lines, message): (u64, String)) {
    tracing::warn!("{lines} more lines like this one in {SPAN:?}: {message}");
}

/// Reads an event's message.
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
