//! The tests of the laboratory. They load real servers, so they run one after the other: each measures the servers and
//! not another test.

#![cfg(target_os = "linux")]

mod book;
mod browser;
#[path = "../../../../tests/it/harness/cargo.rs"]
mod cargo;
mod compare;
mod faults;
mod fleet;
mod harness;
mod record;
