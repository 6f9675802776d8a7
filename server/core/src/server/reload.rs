//! Files that are read again while the server runs: certificates, tokens, rights.
//!
//! The contents are compared, once a second. Notifications would miss swaps of links (a `..data`
//! of Kubernetes), mounts, and files on a network.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::file;
use crate::metrics::Metrics;

/// Time between two looks at the files.
const PAUSE: Duration = Duration::from_secs(1);

/// The contents of files, in the order of their paths; the error names the file.
pub type Contents = Result<Vec<Vec<u8>>, String>;

/// Files that are read together, because their contents must fit each other.
#[derive(Debug)]
pub struct Files {
    /// The name of the files in the log, and in the label of their metric, such as `certificate`.
    name: &'static str,
    /// The flags that name the files, and the paths.
    paths: Vec<(&'static str, PathBuf)>,
    /// The most bytes of one file.
    most_bytes: u64,
}

impl Files {
    /// Files at these paths, each of at most `most_bytes`.
    pub fn new(name: &'static str, paths: Vec<(&'static str, PathBuf)>, most_bytes: u64) -> Self {
        Self { name, paths, most_bytes }
    }

    /// The contents of the files.
    pub fn read(&self) -> Contents {
        let read = |(flag, path): &(&str, PathBuf)| {
            file::read(path, self.most_bytes)
                .map_err(|error| format!("{flag}: {}: {error}", path.display()))
        };
        self.paths.iter().map(read).collect()
    }
}

/// A function that takes contents that have changed. Where this fails, which it says in words that
/// name the file, the server goes on with what it has.
pub type Take = Box<dyn FnMut(&[Vec<u8>]) -> Result<(), String> + Send>;

/// Files that are watched.
pub struct Watched {
    /// The files.
    pub files: Files,
    /// The contents of the files at the start.
    pub first: Vec<Vec<u8>>,
    /// The function that takes their contents when they have changed.
    pub take: Take,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents are secret.
        self.files.fmt(f)
    }
}

/// Looks at files for ever, and has their contents taken when they differ from those that were taken
/// last. An error is logged once.
pub async fn watch(metrics: &Metrics, watched: Watched) {
    let Watched { files, first, mut take } = watched;
    let files = Arc::new(files);
    let mut looks = Looks::new(Ok(first));
    metrics.reloads.begin(files.name);
    loop {
        sleep(PAUSE).await;
        let reader = files.clone();
        // A file on a network may hang: another thread waits for it.
        let Ok(found) = spawn_blocking(move || reader.read()).await else { continue };
        let Some(contents) = looks.look(found) else { continue };
        let taken = contents.as_ref().map_err(String::clone).and_then(|contents| take(contents));
        metrics.reloads.count(files.name, taken.is_ok());
        match taken {
            Ok(()) => tracing::info!("the {} has been read again", files.name),
            Err(error) => tracing::error!(
                "the {} has changed and cannot be used; the last good one stays in force: {error}",
                files.name
            ),
        }
    }
}

/// What looks at files have found.
#[derive(Debug)]
struct Looks {
    /// The contents that were taken last, or could not be.
    taken: Contents,
    /// The contents at the last look.
    seen: Contents,
}

impl Looks {
    fn new(first: Contents) -> Self {
        Self { seen: first.clone(), taken: first }
    }

    /// The contents to take; none where they are as before. Contents are taken when two looks in a
    /// row have found them, because a file may be half written, or one of a pair.
    fn look(&mut self, found: Contents) -> Option<&Contents> {
        let is_stable = found == self.seen;
        self.seen = found;
        if !is_stable || self.seen == self.taken {
            return None;
        }
        self.taken = self.seen.clone();
        Some(&self.taken)
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    fn contents(text: &str) -> Contents {
        Ok(vec![text.into()])
    }

    #[test]
    fn contents_are_taken_once_and_only_when_they_stay() {
        let mut looks = Looks::new(contents("first"));
        assert_eq!(looks.look(contents("first")), None);
        for half_written in ["", "se", "seco"] {
            assert_eq!(looks.look(contents(half_written)), None);
        }
        assert_eq!(looks.look(contents("second")), None);
        assert_eq!(looks.look(contents("second")), Some(&contents("second")));
        assert_eq!(looks.look(contents("second")), None);
    }

    #[test]
    fn a_file_that_is_gone_is_told_once_and_taken_again_when_it_is_back() {
        let mut looks = Looks::new(contents("first"));
        let gone = || Err("gone".to_owned());
        assert_eq!(looks.look(gone()), None);
        assert_eq!(looks.look(gone()), Some(&gone()));
        assert_eq!(looks.look(gone()), None);
        assert_eq!(looks.look(contents("first")), None);
        assert_eq!(looks.look(contents("first")), Some(&contents("first")));
    }

    #[test]
    fn an_error_names_the_flag_and_the_file() {
        let folder = env::temp_dir().join(format!("sigmax-reload-{}", process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (short, long) = (folder.join("short"), folder.join("long"));
        fs::write(&short, "1234").expect("a file");
        fs::write(&long, "12345").expect("a file");
        let read = |paths: &[&PathBuf]| {
            let paths = paths.iter().map(|path| ("--pair", (*path).clone()));
            Files::new("pair", paths.collect(), 4).read()
        };
        assert_eq!(read(&[&short, &short]), Ok(vec![b"1234".into(), b"1234".into()]));
        let error = read(&[&short, &long]).expect_err("one is too long");
        assert_eq!(error, format!("--pair: {}: expected at most 4 bytes, got 5", long.display()));
        fs::remove_dir_all(folder).expect("it is gone");
    }
}
