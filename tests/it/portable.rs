//! The tests that run on every system: servers that run in a thread of the test. The tests of the processes are in
//! `main.rs` and `load.rs`. They need Linux.

mod calls;
mod connects;
mod conversation;
mod embedding;
mod harness;
mod listeners;
mod own_deadlines;
mod steady_state;
mod wakes;
