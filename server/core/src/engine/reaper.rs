//! The reaper drops what takes long to drop, so that no shard waits for it.
//!
//! The end of an engine takes tens of milliseconds where the engine holds much memory, and seconds
//! where its thread is just making another.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The inbox of the thread that drops what it is given, in the order in which it came.
#[derive(Clone, Debug)]
pub struct Reaper(mpsc::Sender<Box<dyn Send>>);

impl Reaper {
    /// Starts the thread, which ends with the last clone of the reaper.
    pub fn start() -> io::Result<Self> {
        let (sender, inbox) = mpsc::channel::<Box<dyn Send>>();
        thread::Builder::new()
            .name("reaper".into())
            .spawn(move || inbox.into_iter().for_each(drop))?;
        Ok(Self(sender))
    }

    /// Makes the thread drop `it`, after what it was given before.
    pub fn end(&self, it: impl Send + 'static) {
        // Where the thread is gone, the value comes back and is dropped by the caller.
        let _ = self.0.send(Box::new(it));
    }

    /// Waits for at most `time` until everything is dropped that was given before.
    pub fn wait(&self, time: Duration) {
        let (mark, dropped) = mpsc::channel::<Infallible>();
        self.end(mark);
        let _ = dropped.recv_timeout(time);
    }
}
