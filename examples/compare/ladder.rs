//! The servers of this project that are compared: which they are, and that they are built.
//!
//! `cargo run --example compare` builds this example alone. So it asks cargo for the others, in the same profile, and
//! finds them where cargo puts them: beside itself.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::contender::{Contender, Origin};

/// The manifest of this project, wherever the example is started from.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

/// Builds the servers, as far as they are not up to date, and returns them.
pub fn build() -> io::Result<Vec<Contender>> {
    let examples = env::current_exe()?.parent().map(Path::to_owned).ok_or(io::ErrorKind::NotFound)?;
    let binaries = examples.parent().ok_or(io::ErrorKind::NotFound)?;
    let profile = match binaries.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    eprintln!("Building the servers ({profile} profile) ...");
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--manifest-path", MANIFEST, "--profile", profile, "--bin", "okloop"])
        .args(["--example", "thread_per_connection", "--example", "tiny_event_loop"])
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("cargo build: {status}")));
    }
    Ok(vec![
        contender(
            "okloop",
            &binaries.join("okloop"),
            &["--host", "127.0.0.1", "--port", "{port}", "--log-level", "warn"],
        ),
        contender("thread_per_connection", &examples.join("thread_per_connection"), &["{port}"]),
        contender("tiny_event_loop", &examples.join("tiny_event_loop"), &["{port}"]),
    ])
}

fn contender(name: &str, program: &Path, arguments: &[&str]) -> Contender {
    let program = program.with_extension(env::consts::EXE_EXTENSION).to_string_lossy().into_owned();
    let words = arguments.iter().map(|&word| word.to_owned());
    Contender {
        name: name.to_owned(),
        origin: Origin::Program(Some(program).into_iter().chain(words).collect()),
    }
}
