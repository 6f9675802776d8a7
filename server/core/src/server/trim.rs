//! Gives back to the system what a burst has left behind.
//!
//! The allocator keeps what is freed, for each thread up to 64 MiB and more. That is right under a
//! load, and not after it.

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::server::acceptor::Control;

/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest time between two looks, while looks find nothing that is free.
const LONGEST_PAUSE: Duration = Duration::from_secs(40);
/// Bytes over the least that the process has ever held which are worth a look for what is free.
const MUCH: usize = 12 << 20;
/// Bytes of messages under way that are a load.
const LOAD: usize = 4 << 20;

/// Looks for the ends of bursts. What is still in use after one look may be free at the next: the
/// least that the process has ever held is what it is held against.
pub async fn watch(control: Rc<Control>) {
    let mut least = resident();
    let mut pause = PAUSE;
    loop {
        sleep(pause).await;
        let before = resident();
        least = least.min(before);
        if before <= least + MUCH || control.state.budget.used() >= LOAD {
            pause = PAUSE;
            continue;
        }
        let _ = spawn_blocking(trim).await;
        pause = match before.saturating_sub(resident()) {
            ..MUCH => (pause * 2).min(LONGEST_PAUSE),
            _ => PAUSE,
        };
    }
}

/// What the process holds, in bytes (proc(5)); 0 where nobody says.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() {
    // SAFETY: it touches nothing but memory that nobody has.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
