//! The servers of this project that are compared: which they are, and that they are built.

use std::env;
use std::path::Path;

use crate::compare::contender::{Contender, Origin};
use crate::support::failure::Failure;
use crate::support::interrupt::Interrupt;
use crate::support::programs;

const EXAMPLES: [&str; 2] = ["thread_per_connection", "tiny_event_loop"];

/// The servers that belong to the comparison.
pub fn contenders() -> Result<Vec<Contender>, Failure> {
    let directory = programs::directory()?;
    let okloop = contender("okloop", &directory, &["--port", "{port}"]);
    let examples = EXAMPLES.map(|name| contender(name, &directory.join("examples"), &["{port}"]));
    Ok([okloop].into_iter().chain(examples).collect())
}

/// Builds them.
pub fn build(interrupt: &Interrupt) -> Result<(), Failure> {
    let examples = EXAMPLES.iter().flat_map(|name| ["--example", name]);
    programs::build(&["--bin", "okloop"].into_iter().chain(examples).collect::<Vec<_>>(), interrupt)
}

fn contender(name: &str, directory: &Path, arguments: &[&str]) -> Contender {
    let program = directory.join(name).with_extension(env::consts::EXE_EXTENSION);
    let words = arguments.iter().map(|&word| word.to_owned());
    let program = [program.to_string_lossy().into_owned()].into_iter().chain(words).collect();
    Contender { name: name.to_owned(), origin: Origin::Program(program) }
}
