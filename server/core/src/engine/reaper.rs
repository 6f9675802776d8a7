//! Drops what takes long to drop, so that no shard waits for it.
//!
//! To end an engine takes tens of milliseconds where it holds much memory, and seconds where its
//! thread is just making another.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A thread that drops what it is given, in its order.
#[derive(Clone, Debug)]
pub struct Reaper(mpsc::Sender<Box<dyn Send>>);

impl Reaper {
    /// Starts the thread; it ends with the last clone of this.
    pub fn start() -> io::Result<Self> {
        let (sender, inbox) = mpsc::channel::<Box<dyn Send>>();
        thread::Builder::new()
            .name("reaper".into())
            .spawn(move || inbox.into_iter().for_each(drop))?;
        Ok(Self(sender))
    }

    /// Has it dropped, soon.
    pub fn end(&self, it: impl Send + 'static) {
        // The caller drops it where the thread is gone.
        let _ = self.0.send(Box::new(it));
    }

    /// Waits at most so long until all is dropped that was given before.
    pub fn wait(&self, time: Duration) {
        let (mark, dropped) = mpsc::channel::<Infallible>();
        self.end(mark);
        let _ = dropped.recv_timeout(time);
    }
}
