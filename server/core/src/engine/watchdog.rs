//! The watchdog ends work that takes too long: one thread looks after every run and every load of
//! the process.
//!
//! A run that is looked after makes two atomic writes for it. The thread sleeps until the first run
//! of all that are under way is to be ended, and is woken only for one that is to be ended before
//! that.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Work that another thread can end.
pub trait Stop: Send + Sync {
    /// Makes the work end soon.
    fn stop(&self);

    /// Lets the work be begun again.
    fn reset(&self);
}

/// State: no work is done.
const IDLE: u64 = u64::MAX;
/// State: the watchdog is about to end the work.
const STOPPING: u64 = u64::MAX - 1;
/// State: the watchdog has ended the work.
const STOPPED: u64 = u64::MAX - 2;
/// The least value that is no time: states are at or above it, times are below it.
const TIMES: u64 = u64::MAX - 3;
/// The least time after which work is ended, so that the thread need not be woken more often.
const GRAIN: Duration = Duration::from_millis(10);
/// A time that is as good as for ever.
const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The origin of all times here, which are nanoseconds since then.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
/// All watches of the process; some may be gone.
static WATCHES: Mutex<Vec<Weak<Watch>>> = Mutex::new(Vec::new());
/// The time at which the thread wakes by itself; `IDLE`: it sleeps until it is woken.
static WAKES: AtomicU64 = AtomicU64::new(IDLE);
static THREAD: OnceLock<Thread> = OnceLock::new();

/// The time that is `time` from now; a century from now where a clock cannot show it.
pub fn from_now(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now + LONG)
}

/// Starts the watchdog's thread, if there is none yet.
pub fn start() -> io::Result<()> {
    // The lock is held, so that no second thread is started meanwhile.
    let _watches = watches();
    if THREAD.get().is_none() {
        let started = thread::Builder::new().name("watchdog".into()).spawn(look)?;
        let _ = THREAD.set(started.thread().clone());
    }
    Ok(())
}

/// A kind of work that is looked after, and that one thread at a time does.
pub struct Watch {
    /// The time at which the work is to be ended, or one of the states above.
    until: AtomicU64,
    work: Box<dyn Stop>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Watch {
    /// A watch that looks after this work whenever [`Watch::run`] does it.
    pub fn new(work: impl Stop + 'static) -> Arc<Self> {
        let watch = Arc::new(Self { until: AtomicU64::new(IDLE), work: Box::new(work) });
        let mut watches = watches();
        if watches.len() == watches.capacity() {
            watches.retain(|each| each.strong_count() > 0);
        }
        watches.push(Arc::downgrade(&watch));
        watch
    }

    /// Does the work, which is ended at `until` where it still goes on. The second result says
    /// whether it has been ended.
    pub fn run<T>(&self, until: Instant, work: impl FnOnce() -> T) -> (T, bool) {
        let until = nanoseconds(until.max(Instant::now() + GRAIN));
        self.until.store(until, SeqCst);
        // Either the watchdog's thread sees this time in its last look before it sleeps, or this
        // thread sees when the watchdog wakes.
        if until < WAKES.load(SeqCst)
            && let Some(thread) = THREAD.get()
        {
            thread.unpark();
        }
        let ending = Ending { watch: self, until };
        let came = work();
        (came, ending.finish())
    }

    /// Ends the work, if it is to end by now. Returns the time at which it is to end; `IDLE` where
    /// it is not.
    fn look(&self, now: u64) -> u64 {
        let until = self.until.load(SeqCst);
        if until > now || self.until.compare_exchange(until, STOPPING, SeqCst, SeqCst).is_err() {
            return if until < TIMES { until } else { IDLE };
        }
        self.work.stop();
        self.until.store(STOPPED, SeqCst);
        IDLE
    }
}

/// A guard for the end of a piece of work, which may be a panic.
struct Ending<'a> {
    watch: &'a Watch,
    until: u64,
}

impl Ending<'_> {
    /// Takes the work out of the watchdog's hands. Returns whether the watchdog has ended it.
    fn finish(&self) -> bool {
        let watch = self.watch;
        while let Err(state) = watch.until.compare_exchange(self.until, IDLE, SeqCst, SeqCst) {
            match state {
                STOPPED => {
                    watch.work.reset();
                    watch.until.store(IDLE, SeqCst);
                    return true;
                }
                STOPPING => thread::yield_now(),
                _ => return false,
            }
        }
        false
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The loop of the watchdog's thread.
fn look() {
    loop {
        let next = first(nanoseconds(Instant::now()));
        WAKES.store(next, SeqCst);
        let now = Instant::now();
        if first(nanoseconds(now)) < next {
            continue;
        }
        match next {
            IDLE => thread::park(),
            next => thread::park_timeout(
                Duration::from_nanos(next).saturating_sub(now.duration_since(*BEGINNING)),
            ),
        }
    }
}

/// Ends all work that is to end by now. Returns the time at which the next is to end; `IDLE` where
/// none is.
fn first(now: u64) -> u64 {
    let watches = watches();
    let looks = watches.iter().filter_map(Weak::upgrade).map(|watch| watch.look(now));
    looks.min().unwrap_or(IDLE)
}

fn watches() -> MutexGuard<'static, Vec<Weak<Watch>>> {
    WATCHES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanoseconds(time: Instant) -> u64 {
    let since = time.saturating_duration_since(*BEGINNING).as_nanos();
    u64::try_from(since).map_or(TIMES - 1, |since| since.min(TIMES - 1))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Work that goes on until it is stopped.
    #[derive(Clone, Default)]
    struct Wait(Arc<AtomicBool>);

    impl Stop for Wait {
        fn stop(&self) {
            self.0.store(true, SeqCst);
        }

        fn reset(&self) {
            self.0.store(false, SeqCst);
        }
    }

    impl Wait {
        fn until_stopped(&self) {
            while !self.0.load(SeqCst) {
                thread::yield_now();
            }
        }
    }

    #[test]
    fn what_goes_on_for_too_long_is_ended_and_can_be_done_again() {
        start().expect("a thread");
        let work = Wait::default();
        let watch = Watch::new(work.clone());
        for _ in 0..3 {
            let until = from_now(Duration::from_millis(1));
            assert!(watch.run(until, || work.until_stopped()).1);
            assert_eq!(watch.run(from_now(Duration::MAX), || 5), (5, false));
        }
    }

    #[test]
    fn what_is_to_end_first_is_ended_first() {
        start().expect("a thread");
        let (slow, quick) = (Wait::default(), Wait::default());
        let (of_slow, of_quick) = (Watch::new(slow.clone()), Watch::new(quick.clone()));
        let ended = of_slow.run(from_now(Duration::from_secs(3600)), || {
            // The watchdog's thread sleeps for an hour by now, or soon.
            of_quick.run(from_now(Duration::ZERO), || quick.until_stopped()).1
        });
        assert_eq!(ended, (true, false));
    }

    #[test]
    fn what_panics_is_looked_after_no_more() {
        start().expect("a thread");
        let watch = Watch::new(Wait::default());
        let panics = || watch.run(from_now(LONG), || panic!("as it should"));
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
        assert!(panic.is_err());
        assert_eq!(watch.until.load(SeqCst), IDLE);
    }
}
