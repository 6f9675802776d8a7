//! Files that others have written: only regular files are read, and no more of them than is
//! allowed.
//!
//! A reader would wait for a named pipe for ever, and a device has no end.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct Regular {
    file: File,
    /// The metadata of the file at the time when it was opened.
    metadata: Metadata,
}

impl Regular {
    /// Opens a regular file. The error does not name the file.
    pub fn open(path: &Path) -> Result<Self, String> {
        // Without O_NONBLOCK, the opening of a named pipe waits for a writer.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = opened.map_err(|error| words(&error))?;
        let metadata = file.metadata().map_err(|error| words(&error))?;
        match metadata.is_file() {
            true => Ok(Self { file, metadata }),
            false => Err(format!("expected a file, got {}", kind(&metadata))),
        }
    }

    /// The bytes of the file at the time when it was opened.
    pub fn size(&self) -> u64 {
        self.metadata.len()
    }

    /// Fills the buffer with the file's bytes from `offset` on.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), String> {
        self.file.read_exact_at(buffer, offset).map_err(|error| words(&error))
    }

    /// Checks that the file has not been written to since it was opened.
    pub fn check_unchanged(&self) -> Result<(), String> {
        let now = self.file.metadata().map_err(|error| words(&error))?;
        let state = |metadata: &Metadata| (metadata.len(), metadata.modified().ok());
        match state(&now) == state(&self.metadata) {
            true => Ok(()),
            false => Err("it was written to while it was read; load it again".into()),
        }
    }
}

/// The content of a whole file of at most `most_bytes`. The error does not name the file.
pub fn read(path: &Path, most_bytes: u64) -> Result<Vec<u8>, String> {
    let mut regular = Regular::open(path)?;
    let size = regular.size();
    if size > most_bytes {
        return Err(format!("expected at most {most_bytes} bytes, got {size}"));
    }
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(size as usize)
        .map_err(|_| format!("there is no memory for its {size} bytes"))?;
    // A file whose size is 0 may still have a content, as the files of /proc do.
    let most = most_bytes.saturating_add(1);
    let came = Read::by_ref(&mut regular.file).take(most).read_to_end(&mut bytes);
    if came.map_err(|error| words(&error))? as u64 == most {
        return Err(format!("expected at most {most_bytes} bytes, got more"));
    }
    regular.check_unchanged()?;
    Ok(bytes)
}

/// The kind of the thing that there is instead of a file.
fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// The system's words for an error, without the error's number.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::{env, fs, process};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("sigmax-file-{name}-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn what_is_no_file_is_neither_waited_for_nor_read() {
        let folder = folder("kinds");
        let pipe = folder.join("pipe");
        let made = process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        for (path, expected) in [
            (folder.as_path(), "expected a file, got a folder"),
            (&pipe, "expected a file, got a named pipe"),
            (Path::new("/dev/zero"), "expected a file, got a device"),
            (&folder.join("missing"), "No such file or directory"),
        ] {
            assert_eq!(read(path, 10).expect_err("no file"), expected);
        }
        fs::remove_dir_all(folder).expect("it is gone");
    }

    #[test]
    fn no_more_is_read_than_is_allowed() {
        let folder = folder("size");
        let file = folder.join("file");
        fs::write(&file, b"0123456789").expect("a file");
        assert_eq!(read(&file, 10).expect("all of it"), b"0123456789");
        assert_eq!(read(&file, 9).expect_err("long"), "expected at most 9 bytes, got 10");
        let endless = read(Path::new("/proc/self/maps"), 10).expect_err("long");
        assert_eq!(endless, "expected at most 10 bytes, got more");
        fs::remove_dir_all(folder).expect("it is gone");
    }

    #[test]
    fn a_change_is_noticed() {
        let folder = folder("change");
        let file = folder.join("file");
        fs::write(&file, b"0123456789").expect("a file");
        let open = Regular::open(&file).expect("it is one");
        open.check_unchanged().expect("nothing has been written");
        fs::write(&file, b"0123").expect("a file");
        open.check_unchanged().expect_err("it has");
        fs::remove_dir_all(folder).expect("it is gone");
    }
}
