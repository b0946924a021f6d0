//! The tests that are sensitive to the load of the machine: they run one after the other, and not beside the tests of
//! `main.rs`. Cargo runs one test binary after the other.

#![cfg(target_os = "linux")]

mod accepting;
mod crowded_chat;
mod fairness;
mod harness;
mod memory;
mod soak;
mod time;
mod vitals;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The test that holds this runs alone.
fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    // A test that failed has poisoned it. The next test runs all the same.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
