//! What the laboratory writes: lines for the operator, progress, and files.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::support::Failure;

/// Writes a line to standard output. If nothing reads it, the line is lost, and the laboratory goes on.
pub fn say(line: impl Display) {
    let _ = try_to_say(line);
}

/// The same, for what is worth nothing unread.
pub fn try_to_say(line: impl Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(Failure::system("Standard output"))
}

/// Writes a line to standard error. `eprintln!` would panic when nothing reads it.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A bar on the terminal, if standard error is one.
pub fn progress(template: &str, length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let bar = ProgressBar::new(length as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Writes a file, and makes the directory that it is in.
pub fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text))
        .map_err(Failure::system(format!("{} could not be written", path.display())))
}

/// Fails now if [`write`] would fail after a long run.
pub fn prepare(directory: &Path) -> Result<(), Failure> {
    let probe = directory.join(".lab");
    write(&probe, "")?;
    fs::remove_file(&probe).map_err(Failure::system(probe.display().to_string()))
}
