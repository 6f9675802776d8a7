//! The output of printed lines. A thread that prints never waits, whether or not the lines are
//! read.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::repeats::{SPAN, tell_repeats};

/// The most bytes of the log that wait to be written.
const LOG_BYTES: usize = 1 << 20;
/// The longest line of the log, in bytes; the rest of a longer one is left out.
const LINE_BYTES: usize = 4096;
/// Time between two tries to write to a file that takes nothing now.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Standard output. It has no bounds, because only the start prints there: its table.
pub static STDOUT: Output = Output::new("stdout", &Standard::Output, usize::MAX, usize::MAX);
/// Standard error, where the log goes.
pub static STDERR: Output = Output::new("stderr", &Standard::Error, LOG_BYTES, LINE_BYTES);

/// The file that an output writes to.
pub trait Source: Debug + Sync {
    /// Opens the file.
    fn open(&self) -> io::Result<File>;

    /// Whether the open file is to be opened again, because another has its place.
    fn is_gone(&self, _: &File) -> bool {
        false
    }

    /// The line that tells how many lines were lost at its place.
    fn gap(&self, lost: u64) -> String {
        format!("warning: {lost} lines of the log were dropped here: nobody took them\n")
    }
}

/// A standard stream of the process.
#[derive(Debug)]
enum Standard {
    Output,
    Error,
}

impl Source for Standard {
    fn open(&self) -> io::Result<File> {
        Ok(File::from(match self {
            Self::Output => io::stdout().as_fd().try_clone_to_owned()?,
            Self::Error => io::stderr().as_fd().try_clone_to_owned()?,
        }))
    }
}

/// An output of lines, which a thread of its own writes.
#[derive(Debug)]
pub struct Output {
    /// The name of the output's thread.
    name: &'static str,
    source: &'static dyn Source,
    /// The most bytes of lines that wait.
    room: usize,
    /// The longest line, in bytes.
    longest: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Printed>,
    /// The bytes of the lines that wait.
    bytes: usize,
    /// The number of lines that were dropped so far.
    dropped: u64,
    has_thread: bool,
    is_writing: bool,
}

#[derive(Debug)]
enum Printed {
    Line(String),
    /// A place where this number of lines found no room.
    Gap(u64),
}

impl Printed {
    fn lines(&self) -> u64 {
        match self {
            Self::Line(_) => 1,
            Self::Gap(lines) => *lines,
        }
    }
}

impl Output {
    /// An output of lines of at most `longest` bytes. Lines that wait have at most `room` bytes
    /// together.
    pub const fn new(
        name: &'static str,
        source: &'static dyn Source,
        room: usize,
        longest: usize,
    ) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            has_thread: false,
            is_writing: false,
        };
        Self { name, source, room, longest, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Prints the lines of a text.
    pub fn print(&'static self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }

    /// Prints a text as one line, whatever characters it has.
    pub fn line(&'static self, text: &str) {
        let line = shown(text, self.longest);
        let mut state = self.lock();
        if state.bytes.saturating_add(line.len()) <= self.room {
            state.bytes += line.len();
            state.waiting.push_back(Printed::Line(line));
        } else {
            state.drop_one();
        }
        if !state.has_thread {
            let thread = thread::Builder::new().name(self.name.into());
            // Without a thread, lines wait for the next line to start it.
            state.has_thread = thread.spawn(|| self.run()).is_ok();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Drops a line that is not to be written, and counts it.
    pub fn skip(&'static self) {
        self.lock().drop_one();
    }

    /// Waits for at most `time` until everything is written. Returns whether it is.
    pub fn finish(&self, time: Duration) -> bool {
        // A gap waits for the next line, unless this is the end.
        self.changed.notify_all();
        let is_busy = |state: &mut State| !state.waiting.is_empty() || state.is_writing;
        let waited = self.changed.wait_timeout_while(self.lock(), time, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The number of lines that were dropped so far, because they found no room or could not be
    /// written.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut file = None;
        // `lost` counts the lines whose loss the reader has not been told of yet.
        let mut lost = 0;
        loop {
            let printed = self.next();
            file =
                file.filter(|file| !self.source.is_gone(file)).or_else(|| self.source.open().ok());
            let is_written =
                file.as_ref().is_some_and(|file| self.put(file, &printed, lost).is_ok());
            lost = if is_written { 0 } else { lost + printed.lines() };
            let mut state = self.lock();
            state.is_writing = false;
            if let (Printed::Line(_), false) = (&printed, is_written) {
                state.dropped += 1;
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Writes a line, and before it how many lines were lost.
    fn put(&self, file: &File, printed: &Printed, lost: u64) -> io::Result<()> {
        let (line, lost) = match printed {
            Printed::Line(line) => (line.as_str(), lost),
            Printed::Gap(lines) => ("", lost + lines),
        };
        if lost > 0 {
            write_all(file, self.source.gap(lost).as_bytes())?;
        }
        write_all(file, line.as_bytes())
    }

    /// Waits for the next line or gap to write.
    fn next(&self) -> Printed {
        loop {
            let waits = |state: &mut State| state.waiting.is_empty();
            let waited = self.changed.wait_timeout_while(self.lock(), SPAN, waits);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if let Some(printed) = state.waiting.pop_front() {
                if let Printed::Line(line) = &printed {
                    state.bytes -= line.len();
                }
                state.is_writing = true;
                return printed;
            }
            drop(state);
            tell_repeats(Instant::now());
        }
    }
}

impl State {
    fn drop_one(&mut self) {
        self.dropped += 1;
        match self.waiting.back_mut() {
            Some(Printed::Gap(lines)) => *lines += 1,
            _ => self.waiting.push_back(Printed::Gap(1)),
        }
    }
}

fn write_all(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process may have set the same file not to block.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(BUSY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The text as a line that cannot steer a terminal, nor look like several lines, nor be endless.
fn shown(text: &str, longest: usize) -> String {
    let mut line = String::with_capacity(text.len().min(longest) + 1);
    for char in text.chars() {
        if line.len() >= longest {
            line.push_str(&format!(" ... ({} bytes)", text.len()));
            break;
        }
        match steers(char) {
            true => line.extend(char.escape_default()),
            false => line.push(char),
        }
    }
    line.push('\n');
    line
}

/// Whether a character could steer a terminal or a reader: it is a control character, ends lines
/// elsewhere, or turns the direction of text.
fn steers(char: char) -> bool {
    let is_hidden =
        matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_hidden || (char.is_control() && char != '\t')
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::os::fd::OwnedFd;
    use std::sync::OnceLock;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_line_cannot_steer_a_terminal() {
        assert_eq!(
            shown("a\tb\nready: \u{1b}[2J\u{202e}", 99),
            "a\tb\\nready: \\u{1b}[2J\\u{202e}\n"
        );
        assert_eq!(shown("fläche", 99), "fläche\n");
    }

    #[test]
    fn a_long_line_is_cut() {
        assert_eq!(shown("abcdef", 4), "abcd ... (6 bytes)\n");
        assert_eq!(shown("abcd", 4), "abcd\n");
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        static READER: OnceLock<PipeReader> = OnceLock::new();
        static OUTPUT: Output = Output::new("test", &Pipe, 100_000, 1000);
        #[derive(Debug)]
        struct Pipe;
        impl Source for Pipe {
            fn open(&self) -> io::Result<File> {
                let (reader, writer) = io::pipe()?;
                READER.set(reader).expect("it is opened once");
                Ok(File::from(OwnedFd::from(writer)))
            }
        }
        // These lines are more than the pipe and the room for lines hold.
        let line = "x".repeat(999);
        (0..1000).for_each(|_| OUTPUT.line(&line));
        let dropped = OUTPUT.dropped();
        assert!(dropped > 0);
        assert!(!OUTPUT.finish(Duration::ZERO));
        let told = |text: &str| -> u64 {
            let gaps = text.lines().filter_map(|line| line.strip_prefix("warning: "));
            gaps.map(|gap| gap.split(' ').next().expect("a word").parse::<u64>().expect("a number"))
                .sum()
        };
        let mut text = String::new();
        while told(&text) + (text.matches(&line).count() as u64) < 1000 {
            // The output's thread has opened the pipe, or will.
            let Some(mut reader) = READER.get() else { continue };
            let mut bytes = [0; 65_536];
            let count = reader.read(&mut bytes).expect("it is read");
            text += str::from_utf8(bytes.get(..count).expect("it fits")).expect("it is text");
        }
        assert_eq!(told(&text), dropped);
        assert!(OUTPUT.finish(PATIENCE));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        static OUTPUT: Output = Output::new("test", &Full, 100_000, 1000);
        #[derive(Debug)]
        struct Full;
        impl Source for Full {
            fn open(&self) -> io::Result<File> {
                File::options().write(true).open("/dev/full")
            }
        }
        OUTPUT.print("a\nb");
        assert!(OUTPUT.finish(PATIENCE));
        assert_eq!(OUTPUT.dropped(), 2);
    }
}
