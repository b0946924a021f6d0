//! The project's programs: where they are, and that they are up to date.
//!
//! `cargo run -p lab` builds the laboratory alone. The laboratory then asks cargo to build the other programs, with the
//! same profile. Started by its path, it takes the programs as they are.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{ChildGuard, Failure, Interrupt};

/// How long cargo may take.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The directory in which cargo put this program, for example `target/release`.
pub fn directory() -> Result<PathBuf, Failure> {
    let program = env::current_exe().map_err(Failure::system("The path of this program"))?;
    match program.parent() {
        // Cargo keeps this lock beside the programs that it builds.
        Some(directory) if directory.join(".cargo-lock").exists() => Ok(directory.to_owned()),
        _ => Err(Failure::Impossible(format!(
            "the laboratory looks for the servers beside itself, where cargo puts them, and not at {}: \
             cargo run --release -p lab",
            program.display()
        ))),
    }
}

/// Has cargo build those of these programs that are the project's, if cargo started this program.
pub fn build<'a>(programs: impl IntoIterator<Item = &'a str>, interrupt: &Interrupt) -> Result<(), Failure> {
    let directory = directory()?;
    let Some(cargo) = env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(cargo);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    command.args(["build", "--quiet", "--package", "okloop", "--profile", profile(&directory)]);
    command.args(["--bin", "okloop", "--manifest-path", manifest, "--target-dir"]).arg(directory.join(".."));
    for program in programs {
        if let Ok(name) = Path::new(program).strip_prefix(directory.join("examples")) {
            command.arg("--example").arg(name);
        }
    }
    command.stdin(Stdio::null());
    let build = ChildGuard::spawn(&mut command).map_err(Failure::system("cargo build"))?;
    match interrupt.wait_for_end(&build, PATIENCE)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Failure::System(format!("cargo build: {status}"))),
        None => Err(Failure::Silent(format!("cargo build did not end within {PATIENCE:?}"))),
    }
}

/// The profile whose programs cargo puts in `directory`.
fn profile(directory: &Path) -> &str {
    match directory.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    }
}
