//! The tests that run on every system: the state machine of a session, and servers that run in a thread of the test.
//! The tests of the processes are in `main.rs` and `load.rs`. They need Linux.

mod conversation;
mod embedding;
mod harness;
mod steady_state;

/// For its unit tests alone: `cargo test` builds the examples but does not test them.
#[path = "../../examples/google_get.rs"]
#[expect(dead_code, reason = "main is the example's")]
mod google_get;
