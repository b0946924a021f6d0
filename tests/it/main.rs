//! The tests that need a process, in one binary: it links once, and they share the harness. `load.rs` is a second one,
//! for the tests that must run alone. They send signals, read /proc and expect the error codes of Linux, so they need
//! Linux. `portable.rs` has the tests that run on every system.
//!
//! A test does not sleep until something has happened: it waits for a line or for bytes, up to a deadline.

#![cfg(target_os = "linux")]

mod absurd_limits;
mod backpressure;
mod balancer;
mod chat;
mod chat_redis;
mod clients;
mod command;
mod container;
mod documents;
mod driver;
mod editions;
mod exercises;
mod first_signals;
mod gateway;
mod half_a_line;
mod harness;
mod house;
mod ladder;
mod limits;
mod log_lines;
mod lookup;
mod metrics;
mod open_files;
mod panics;
mod parity;
mod promises;
mod protocols;
mod proxy;
mod shutdown;
mod system_calls;
mod systemd;
mod telnet;
mod terminal;
mod vitals;
mod windows;
