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

/// How often it looks.
const PAUSE: Duration = Duration::from_secs(5);
/// So much more than before, in bytes, is worth looking for what is free.
const MUCH: usize = 12 << 20;
/// So much of messages under way, in bytes, is a load.
const LOAD: usize = 4 << 20;

/// Looks for the ends of bursts.
pub async fn watch(control: Rc<Control>) {
    let mut least = resident();
    loop {
        sleep(PAUSE).await;
        let now = resident();
        least = least.min(now);
        if now > least + MUCH && control.state.budget.used() < LOAD {
            let _ = spawn_blocking(trim).await;
            least = resident();
        }
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
