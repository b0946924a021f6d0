//! The tests that need a process, in one binary: it links once, and they share the harness. `load.rs` is a second one,
//! for the tests that must run alone. They send signals, read /proc and expect the error codes of Linux, so they need
//! Linux. `portable.rs` has the tests that run on every system.
//!
//! A test does not sleep until something has happened: it waits for a line or for bytes, up to a deadline.

#![cfg(target_os = "linux")]

mod backpressure;
mod balancer;
mod clients;
mod command;
mod documents;
mod exercises;
mod gateway;
mod harness;
mod ladder;
mod limits;
mod log_lines;
mod open_files;
mod parity;
mod promises;
mod protocols;
mod shutdown;
mod system_calls;
mod systemd;
mod telnet;
mod terminal;
mod vitals;
mod windows;
