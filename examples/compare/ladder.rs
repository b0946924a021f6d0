//! The servers of this project that are compared: which they are, and that they are built.
//!
//! `cargo run --example compare` builds this example alone. So it asks cargo for the others, in the same profile, and
//! finds them where cargo puts them: beside itself.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::contender::{Contender, Origin};

/// The manifest of this project, wherever the example is started from.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

/// The servers that belong to the comparison, whether they are built or not.
pub fn contenders() -> io::Result<Vec<Contender>> {
    let examples = examples()?;
    let okloop = examples.with_file_name("okloop");
    Ok(vec![
        contender("okloop", &okloop, &["--host", "127.0.0.1", "--port", "{port}", "--log-level", "warn"]),
        contender("thread_per_connection", &examples.join("thread_per_connection"), &["{port}"]),
        contender("tiny_event_loop", &examples.join("tiny_event_loop"), &["{port}"]),
    ])
}

/// Builds them, as far as they are not up to date.
pub fn build() -> io::Result<()> {
    let examples = examples()?;
    let profile = match examples.parent().and_then(Path::file_name).and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    eprintln!("Building the servers ({profile} profile) ...");
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--manifest-path", MANIFEST, "--profile", profile, "--bin", "okloop"])
        .args(["--example", "thread_per_connection", "--example", "tiny_event_loop"])
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cargo build: {status}"))) }
}

/// Where cargo puts examples: this one is there.
fn examples() -> io::Result<PathBuf> {
    let mut path = env::current_exe()?;
    path.pop();
    Ok(path)
}

fn contender(name: &str, program: &Path, arguments: &[&str]) -> Contender {
    let program = program.with_extension(env::consts::EXE_EXTENSION).to_string_lossy().into_owned();
    let words = arguments.iter().map(|&word| word.to_owned());
    Contender {
        name: name.to_owned(),
        origin: Origin::Program(Some(program).into_iter().chain(words).collect()),
    }
}
