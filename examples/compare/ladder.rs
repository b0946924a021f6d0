//! The servers of this project that are compared: which they are, and that they are built.
//!
//! `cargo run --example compare` builds this example alone. So it asks cargo for the others, in the same profile, and
//! finds them where cargo puts them: beside itself.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::cargo;
use crate::child::ChildGuard;
use crate::contender::{Contender, Origin};

/// The servers that belong to the comparison, whether they are built or not.
pub fn contenders() -> io::Result<Vec<Contender>> {
    let examples = examples()?;
    let okloop = examples.with_file_name("okloop");
    Ok(vec![
        contender("okloop", &okloop, &["--port", "{port}"]),
        contender("thread_per_connection", &examples.join("thread_per_connection"), &["{port}"]),
        contender("tiny_event_loop", &examples.join("tiny_event_loop"), &["{port}"]),
    ])
}

/// Builds them, as far as they are not up to date, or stops at Ctrl-C.
pub fn build(interrupted: &AtomicBool) -> io::Result<()> {
    let examples = examples()?;
    let directory = examples.parent().unwrap_or(Path::new("."));
    eprintln!("Building the servers ({} profile) ...", cargo::profile(directory));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = cargo::build(cargo.clone(), directory);
    command.args(["--quiet", "--bin", "okloop"]);
    command.args(["--example", "thread_per_connection", "--example", "tiny_event_loop"]);
    let build = ChildGuard::spawn(command.stdin(Stdio::null()))
        .map_err(|error| io::Error::other(format!("{} build: {error}", cargo.display())))?;
    while !interrupted.load(Ordering::Relaxed) {
        match build.exit_status() {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("cargo build: {status}"))),
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
    Ok(())
}

/// Where cargo puts examples: this one is there, unless it was copied.
fn examples() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    match program.parent() {
        Some(directory) if directory.ends_with("examples") => Ok(directory.to_owned()),
        _ => Err(io::Error::other(format!(
            "the servers are looked for beside this program, which is to be where cargo puts it, in \
             target/release/examples, and not at {}: cargo run --release --example compare",
            program.display()
        ))),
    }
}

fn contender(name: &str, program: &Path, arguments: &[&str]) -> Contender {
    let program = program.with_extension(env::consts::EXE_EXTENSION).to_string_lossy().into_owned();
    let words = arguments.iter().map(|&word| word.to_owned());
    Contender {
        name: name.to_owned(),
        origin: Origin::Program(Some(program).into_iter().chain(words).collect()),
    }
}
