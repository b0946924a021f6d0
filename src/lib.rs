//! A single-threaded readiness loop on raw mio.

pub mod buffer;
pub mod protocol;
