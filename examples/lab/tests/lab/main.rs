//! The tests of the laboratory. They load real servers. A test whose figures matter runs alone: it measures the servers and
//! not another test. The others run a few at a time.

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
