//! The tests that need a process or a socket, in one binary: it links once, and they share the harness. `load.rs` is a
//! second one, for the tests that must run alone.
//!
//! A test does not sleep until something has happened: it waits for a line or for bytes, up to a deadline.

// The build for Windows has tests of its own: `windows.rs`.
#![cfg(unix)]

mod backpressure;
mod balancer;
mod clients;
mod command;
mod conversation;
mod documents;
mod embedding;
mod harness;
mod interleavings;
mod ladder;
mod limits;
mod log_lines;
mod open_files;
mod parity;
mod protocols;
mod scripted;
mod shutdown;
mod state_machine;
mod steady_state;
mod system_calls;
mod systemd;
mod telnet;
mod terminal;
mod vitals;
mod windows;

/// For its unit tests alone: `cargo test` builds the examples but does not test them.
#[path = "../../examples/google_get.rs"]
#[expect(dead_code, reason = "main is the example's")]
mod google_get;
