//! The limit of files that the process may have open, and the connections' shares of it.

use std::fs;

/// Descriptors for what opens files beside connections: models that are loaded, drivers of GPUs.
const OTHERS: usize = 64;

/// Descriptors that an event loop takes.
const OF_A_LOOP: usize = 4;

/// The shares that the limit of open files leaves to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// The most connections of gRPC.
    pub grpc: usize,
    /// The most connections of the HTTP port.
    pub http: usize,
}

impl Shares {
    /// Shares as large as wanted, or as large as fit beside the files that are open and those that
    /// the event loops open. A smaller share of gRPC is logged.
    pub fn new(shards: usize, grpc: usize, http: usize) -> Self {
        let limit = raise();
        // The limit is hoped to suffice where nobody can tell what is open.
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) + shards * OF_A_LOOP;
        let shares = Self::of(limit.saturating_sub(open), grpc, http);
        if shares.grpc < grpc {
            tracing::warn!(
                "--max-connections, which is {grpc}, is lowered to {}: the process may have \
                 {limit} files open (ulimit -n), needs {open} at once, and some for models and HTTP",
                shares.grpc
            );
        }
        shares
    }

    /// Shares of so many free descriptors. Where there are few, gRPC gets half of them and at least
    /// one.
    fn of(free: usize, grpc: usize, http: usize) -> Self {
        let http = http.min(free / 4).max(1);
        let others = OTHERS.min(free / 4);
        Self { grpc: grpc.min(free.saturating_sub(http + others)).max(1), http }
    }
}

/// Raises the limit of open files as far as it goes, and returns it; the largest number where the
/// system does not tell it.
#[allow(unsafe_code)]
fn raise() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer, and do not keep it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return usize::MAX;
        }
        let most = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const most) == 0 {
            limit = most;
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_a_share() {
        assert_eq!(Shares::of(1_000_000, 4096, 32), Shares { grpc: 4096, http: 32 });
        assert_eq!(Shares::of(1000, 4096, 32), Shares { grpc: 904, http: 32 });
        assert_eq!(Shares::of(40, 4096, 32), Shares { grpc: 20, http: 10 });
        assert_eq!(Shares::of(0, 4096, 32), Shares { grpc: 1, http: 1 });
    }
}
