//! The trim, which gives back to the system the memory that a burst has left behind.
//!
//! The allocator keeps what is freed. That is right under a load, and not after it. What glibc keeps
//! at the end of a thread's memory is never given back by `malloc_trim`, and bounded by its
//! thresholds alone.

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
/// The most bytes that are free at the end of a thread's memory. Left to itself, glibc raises this
/// to 64 MiB when large blocks are freed.
#[cfg(target_env = "gnu")]
const FREE_END: libc::c_int = 8 << 20;
/// Bytes of that which stay when the rest is given back, for the next message.
#[cfg(target_env = "gnu")]
const KEPT_END: libc::c_int = 6 << 20;
/// Bytes from which a block is mapped by itself, and unmapped when it is freed: glibc's largest
/// value, to which large messages raise it. Once the other threshold is set, it stays at its least.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 32 << 20;

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
pub fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// Bounds what the allocator keeps for each thread where `trim` gives nothing back.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn bound() {
    // SAFETY: `mallopt` may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_END);
        libc::mallopt(libc::M_TOP_PAD, KEPT_END);
    }
}

#[cfg(not(target_env = "gnu"))]
pub fn bound() {}

/// Gives back memory that is free.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn trim() {
    // SAFETY: `malloc_trim` touches only memory that is free.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn trim() {}
