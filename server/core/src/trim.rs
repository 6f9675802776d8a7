//! Gives back to the system what a burst of large messages has left behind.
//!
//! The allocator keeps what is freed, for each thread up to 64 MiB and more. That is right under a
//! load, and not after it.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::listen::Control;
use crate::memory::Memory;

/// How often it looks.
const PAUSE: Duration = Duration::from_secs(5);
/// So much of messages under way is a burst, in bytes ...
const MUCH: usize = 16 << 20;
/// ... and so much is its end.
const LITTLE: usize = 4 << 20;

/// Looks for the ends of bursts.
pub async fn watch(control: Rc<Control>) {
    let memory: &Memory = &control.shared.memory;
    let mut most = 0;
    loop {
        sleep(PAUSE).await;
        most = most.max(memory.take_most());
        if most > MUCH && memory.used() < LITTLE {
            most = 0;
            let _ = spawn_blocking(trim).await;
        }
    }
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() {
    // SAFETY: it touches nothing but memory that nobody has.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
