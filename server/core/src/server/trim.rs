//! The trim, which gives back to the system the memory that a burst has left behind.
//!
//! The allocator keeps what is freed, for each thread up to 64 MiB and more. That is right under a
//! load, and not after it.

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::server::acceptor::Control;

/// Time between two looks at the process's memory.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest time between two looks, while looks find nothing that is free.
const LONGEST_PAUSE: Duration = Duration::from_secs(40);
/// Bytes over the least that the process has ever held from which a trim is worth its time; and
/// bytes that a trim must free, or the next looks come later.
const MUCH: usize = 12 << 20;
/// Bytes of messages under way from which the server is under a load, and is not trimmed.
const LOAD: usize = 4 << 20;

/// Looks for the ends of bursts, and trims. The memory is compared with the least that the process
/// has ever held, because memory that is in use at one look may be free at the next.
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

/// Bytes of memory that the process holds (proc(5)); 0 where the system does not say.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() {
    // SAFETY: `malloc_trim` touches only memory that is free.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
