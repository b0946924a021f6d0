//! The contenders that come with the project: which they are, and that they are built.

use crate::compare::contender::{Contender, Origin};
use crate::support::failure::Failure;
use crate::support::interrupt::Interrupt;
use crate::support::programs;

/// The rungs of the ladder.
const RUNGS: [&str; 3] = ["thread_per_connection", "poll_all", "tiny_event_loop"];
/// The servers of `lab serve`.
const SERVED: [&str; 3] = ["threads_gathered", "tokio_one_thread", "tokio_all_threads"];
/// The server in Python.
const ASYNCIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/serve/asyncio_server.py");

/// The servers that belong to the comparison.
pub fn contenders() -> Result<Vec<Contender>, Failure> {
    let directory = programs::directory()?;
    let beside = |name: &str| directory.join(name).display().to_string();
    let okloop = [contender("okloop", &[&beside("okloop"), "--port", "{port}"])];
    let rungs = RUNGS.map(|name| contender(name, &[&beside(&format!("examples/{name}")), "{port}"]));
    let served = SERVED.map(|name| contender(name, &[&beside("lab"), "serve", name, "{port}"]));
    let asyncio = [contender("asyncio", &["python3", ASYNCIO, "{port}"])];
    Ok(okloop.into_iter().chain(rungs).chain(served).chain(asyncio).collect())
}

/// Builds them.
pub fn build(interrupt: &Interrupt) -> Result<(), Failure> {
    let examples = RUNGS.iter().flat_map(|name| ["--example", name]);
    programs::build(&["--bin", "okloop"].into_iter().chain(examples).collect::<Vec<_>>(), interrupt)
}

fn contender(name: &str, words: &[&str]) -> Contender {
    let words = words.iter().map(|&word| word.to_owned()).collect();
    Contender { name: name.to_owned(), origin: Origin::Program(words) }
}
