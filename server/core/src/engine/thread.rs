//! A thread on which an engine is made, run and ended: a CUDA graph can be replayed only by the
//! thread that captured it.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::Engine;

/// Time allowed for work to return after it was ended: ONNX Runtime looks whether it is to end
/// between two operators only.
const OVERTIME: Duration = Duration::from_secs(10);
/// The reason why a thread has not done its work.
#[derive(Debug)]
pub enum Unfinished {
    /// The thread cannot be started.
    NotStarted(io::Error),
    /// The work took too long, and was ended.
    Late,
    /// The work took too long and does not end, so its thread is given up.
    Lost,
    /// The thread has ended, or its work panicked.
    Ended,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = "the load took longer than --load-timeout-seconds, and";
        match self {
            Self::NotStarted(error) => write!(f, "cannot start its threads: {error}"),
            Self::Late => write!(f, "{late} was ended"),
            Self::Lost => write!(f, "{late} does not end: its thread is given up"),
            Self::Ended => f.write_str("its thread has ended"),
        }
    }
}

/// The place of a thread's engine; none until it has one.
pub type Slot = Option<Box<dyn Engine>>;

type Work = Box<dyn FnOnce(&mut Slot) + Send>;

/// The handle of a thread that does the work it is given, in the order in which it came. A drop
/// ends the thread and its engine, and waits for that.
#[derive(Debug)]
pub struct EngineThread {
    /// The thread's inbox; none once the thread is to end.
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl EngineThread {
    /// Starts a thread without an engine.
    pub fn start(name: String) -> Result<Self, Unfinished> {
        let (sender, inbox) = mpsc::channel::<Work>();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let mut slot = None;
            inbox.into_iter().for_each(|work| work(&mut slot));
        });
        let thread = thread.map_err(Unfinished::NotStarted)?;
        Ok(Self { work: Some(sender), thread: Some(thread) })
    }

    /// Makes the thread do this work next. The returned channel gives the result; it closes without
    /// one where the work panicked or the thread has ended.
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
    /// Gives the thread up without waiting for its end: it may hang for ever in its work.
    pub fn abandon(mut self) {
        drop(self.thread.take());
    }
}

/// The result of work that ends at `until` at the latest, unless it hangs; an error where none
/// comes within `OVERTIME` after that.
pub fn outcome<T>(result: &mpsc::Receiver<T>, until: Instant) -> Result<T, Unfinished> {
    let patience = until.saturating_duration_since(Instant::now()) + OVERTIME;
    result.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Timeout => Unfinished::Lost,
        RecvTimeoutError::Disconnected => Unfinished::Ended,
    })
}

/// Does work that ends at `until` at the latest, unless it hangs, on a thread of its own. A thread
/// that hangs is given up.
pub fn apart<T: Send + 'static>(
    until: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished> {
    let thread = EngineThread::start("load".into())?;
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
