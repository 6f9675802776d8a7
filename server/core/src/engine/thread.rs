//! A thread that an engine is made on, run on and ended on: what a GPU has captured of a network
//! can be replayed by the thread alone that captured it.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::Engine;

/// How long is waited for what was ended: the library looks around between two operators only.
const OVERTIME: Duration = Duration::from_secs(10);
/// What a model is told that was not loaded in time.
pub const LATE: &str =
    "expected it to be loaded within --load-timeout-seconds; it took longer, and was ended";
/// And one that cannot even be ended.
const LOST: &str = "expected it to be loaded within --load-timeout-seconds; it took longer, and \
                    does not end: its thread is given up";

/// Where the thread keeps its engine, once it has one.
pub type Slot = Option<Box<dyn Engine>>;

type Work = Box<dyn FnOnce(&mut Slot) + Send>;

/// The thread, which does what it is given in its order. It ends, and its engine with it, when this
/// is dropped, which waits for it.
#[derive(Debug)]
pub struct EngineThread {
    /// Until it is to end.
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl EngineThread {
    /// A thread without an engine.
    pub fn start(name: String) -> io::Result<Self> {
        let (sender, inbox) = mpsc::channel::<Work>();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let mut slot = None;
            inbox.into_iter().for_each(|work| work(&mut slot));
        })?;
        Ok(Self { work: Some(sender), thread: Some(thread) })
    }

    /// Has it do this next. What comes of it can be received; nothing where it panicked.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Slot) -> T + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (sender, result) = mpsc::channel();
        let work: Work = Box::new(move |slot| drop(sender.send(work(slot))));
        if let Some(inbox) = &self.work {
            let _ = inbox.send(work);
        }
        result
    }
}

impl EngineThread {
    /// Waits for it no more: it may hang for ever in what it does.
    pub fn abandon(mut self) {
        drop(self.thread.take());
    }
}

/// What comes of work that ends at this time at the latest, or hangs. The error is for people.
pub fn outcome<T>(result: &mpsc::Receiver<T>, until: Instant) -> Result<T, String> {
    let patience = until.saturating_duration_since(Instant::now()) + OVERTIME;
    result.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Timeout => LOST.into(),
        RecvTimeoutError::Disconnected => "its thread has ended".into(),
    })
}

/// Does work that ends at this time at the latest, or hangs, on a thread that is given up then.
pub fn apart<T: Send + 'static>(
    until: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let thread = EngineThread::start("load".into())
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let came = outcome(&thread.run(|_| work()), until);
    thread.abandon();
    came
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
