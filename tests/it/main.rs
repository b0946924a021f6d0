//! The tests that need a process or a socket, in one binary: it links once, and all of them share the harness.
//!
//! Nothing here sleeps to wait for something: a test waits for a line or for bytes, up to a deadline.

mod harness;
mod ladder;
mod steady_state;

/// For its unit tests alone: `cargo test` builds the examples but does not test them.
#[path = "../../examples/google_get.rs"]
#[expect(dead_code, reason = "main is the example's")]
mod google_get;
