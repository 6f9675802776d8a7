//! A shard that has refused requests lets the workers go first.
//!
//! In an overload, a shard that wakes for every request takes the core away from a worker each time,
//! only to refuse one more. So before it sleeps it yields: a worker that waits for this core runs for
//! its slice, and what comes meanwhile is refused together. Where none waits it costs nothing.

use std::cell::Cell;
use std::thread;

thread_local! {
    static IS_DUE: Cell<bool> = const { Cell::new(false) };
}

/// This thread has refused a request.
pub fn refused() {
    IS_DUE.set(true);
}

/// Lets others go first, where this thread has refused requests since it last did.
pub fn give_way() {
    if IS_DUE.replace(false) {
        thread::yield_now();
    }
}
