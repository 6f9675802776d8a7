//! A thread that an engine is made on, run on and ended on: what a GPU has captured of a network
//! can be replayed by the thread alone that captured it.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::engine::Engine;

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

impl Drop for EngineThread {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
