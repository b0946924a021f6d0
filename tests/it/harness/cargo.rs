//! Cargo, as a test starts it.

use std::env;
use std::process::Command;

/// Cargo without what the cargo above this test has told the test about its package. If these variables change, build
/// scripts of some dependencies run again, and whatever needs them is built again.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in env::vars() {
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}
