//! The tests that run on every system: the state machine of a session, and servers that run in a thread of the test.
//! The tests of the processes are in `main.rs` and `load.rs`. They need Linux.

mod conversation;
mod embedding;
mod harness;
mod interleavings;
mod scripted;
mod state_machine;
mod steady_state;
