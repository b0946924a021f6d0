//! How an example has cargo build the project's other programs: `cargo run --example` builds only the one that it runs.

#![allow(dead_code, reason = "not every example says the profile")]

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

/// `cargo build`, still to be told what: with the profile of the programs in `directory`, `target/release` say, and into
/// the same place.
pub fn build(cargo: OsString, directory: &Path) -> Command {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--manifest-path", manifest, "--profile", profile(directory), "--target-dir"]);
    command.arg(directory.join(".."));
    command
}

/// The profile whose programs cargo puts in `directory`.
pub fn profile(directory: &Path) -> &str {
    match directory.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    }
}
