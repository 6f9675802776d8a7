//! A shard that has refused requests lets the workers run first.
//!
//! In an overload, a shard that wakes for every request takes the core away from a worker each
//! time, only to refuse one more request. So the shard yields before it sleeps: a worker that waits
//! for this core runs for its slice, and the requests that come meanwhile are refused together. A
//! yield costs nothing where no worker waits.

use std::cell::Cell;
use std::thread;

thread_local! {
    static IS_DUE: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this thread has refused a request.
pub fn refused() {
    IS_DUE.set(true);
}

/// Yields the core, where this thread has refused requests since it last yielded.
pub fn give_way() {
    if IS_DUE.replace(false) {
        thread::yield_now();
    }
}
