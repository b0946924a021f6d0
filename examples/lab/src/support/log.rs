//! What a server writes: a file of its own for each start, of limited size.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::support::{Failure, output};

/// A log that has grown above this size (bytes) begins again, empty. The end of a log is worth more than its beginning.
pub const LIMIT: u64 = 16 * 1024 * 1024;
/// How often the size is checked.
const CHECK: Duration = Duration::from_millis(100);
/// How much of the end is searched for the last words (bytes).
const END: u64 = 4096;
/// How many characters of the last words are shown.
const LAST_WORDS: usize = 100;

/// A server's log. Dropping it ends the check of its size.
#[derive(Debug)]
pub struct Log {
    pub path: PathBuf,
    _checked: Sender<()>,
}

impl Log {
    /// Makes an empty log; returns the file that the server is to write to.
    pub fn create(path: PathBuf) -> Result<(Self, File), Failure> {
        output::write(&path, "")?;
        // In append mode every write goes to the present end, also after the file was emptied.
        let opened = File::options().append(true).open(&path).and_then(|file| Ok((file.try_clone()?, file)));
        let (watched, file) = opened.map_err(Failure::system(path.display().to_string()))?;
        let (checked, until) = channel();
        thread::spawn(move || {
            while until.recv_timeout(CHECK) == Err(RecvTimeoutError::Timeout) {
                if watched.metadata().is_ok_and(|metadata| metadata.len() > LIMIT) {
                    // It fails only where the file system does, and then the log ends there too.
                    let _ = watched.set_len(0);
                }
            }
        });
        Ok((Self { path, _checked: checked }, file))
    }

    /// The last line that is not blank: its beginning, in quotation marks, with control characters escaped.
    pub fn last_words(&self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END))).ok()?;
        let mut end = Vec::new();
        file.take(END).read_to_end(&mut end).ok()?;
        let line = end.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).rfind(|line| !line.is_empty())?;
        let line = String::from_utf8_lossy(line);
        let shown: String = line.chars().take(LAST_WORDS).collect();
        let rest = if shown.len() < line.len() { " ..." } else { "" };
        Some(format!("{shown:?}{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Instant;
    use std::{env, fs, process};

    use super::*;

    /// A file that is removed with its test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(env::temp_dir().join(format!("lab-log-{name}-{}", process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn the_last_words_of_a_huge_log_are_read_from_its_end() {
        let scratch = Scratch::new("huge");
        let mut file = File::create(&scratch.0).unwrap();
        // A hole: it takes no room on the disk, but no memory could hold it.
        file.set_len(1 << 40).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"\nthe \x1b[31mroof is on fire\n\n").unwrap();
        let log = Log { path: scratch.0.clone(), _checked: channel().0 };
        assert_eq!(log.last_words().as_deref(), Some(r#""the \u{1b}[31mroof is on fire""#));
    }

    #[test]
    fn a_log_that_grows_too_large_begins_again() {
        let scratch = Scratch::new("chatty");
        let (log, mut file) = Log::create(scratch.0.clone()).unwrap();
        let size = || fs::metadata(&scratch.0).unwrap().len();
        let deadline = Instant::now() + Duration::from_secs(30);
        file.write_all(&vec![b'.'; usize::try_from(LIMIT).unwrap() + 1]).unwrap();
        while size() > 0 {
            assert!(Instant::now() < deadline, "the log still has {} bytes", size());
            thread::sleep(CHECK);
        }
        file.write_all(b"the end\n").unwrap();
        assert_eq!(log.last_words().as_deref(), Some("\"the end\""));
    }
}
