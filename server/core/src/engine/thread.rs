//! A thread that an engine is made on, run on and ended on: what a GPU has captured of a network
//! can be replayed by the thread alone that captured it.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::Engine;

/// How long is waited for what was ended: the library looks around between two operators only.
const OVERTIME: Duration = Duration::from_secs(10);
/// Why a thread has not done its work.
#[derive(Debug)]
pub enum Unfinished {
    /// The thread cannot be started.
    NotStarted(io::Error),
    /// The work took too long, and was ended.
    Late,
    /// The work took too long, and cannot even be ended.
    Lost,
    /// The thread has ended.
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

/// Where the thread keeps its engine, once it has one.
pub type Slot = Option<Box<dyn Engine>>;

type Work = Box<dyn FnOnce(&mut Slot) + Send>;

/// The thread, which does what it is given in its order. It ends, and its engine with it, when this
/// is dropped, which waits for it.
#[derive(Debug)]
pub struct EngineThread {
    /// The inbox, until the thread is to end.
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl EngineThread {
    /// A thread without an engine.
    pub fn start(name: String) -> Result<Self, Unfinished> {
        let (sender, inbox) = mpsc::channel::<Work>();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let mut slot = None;
            inbox.into_iter().for_each(|work| work(&mut slot));
        });
        let thread = thread.map_err(Unfinished::NotStarted)?;
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

/// What comes of work that ends at this time at the latest, or hangs.
pub fn outcome<T>(result: &mpsc::Receiver<T>, until: Instant) -> Result<T, Unfinished> {
    let patience = until.saturating_duration_since(Instant::now()) + OVERTIME;
    result.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Timeout => Unfinished::Lost,
        RecvTimeoutError::Disconnected => Unfinished::Ended,
    })
}

/// Does work that ends at this time at the latest, or hangs, on a thread that is given up then.
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
