//! A single-threaded readiness loop on raw mio.

pub mod acceptor;
pub mod buffer;
pub mod config;
pub mod connection;
pub mod control;
pub mod deadlines;
pub mod logging;
pub mod protocol;
pub mod readiness;
pub mod reason;
pub mod server;
pub mod stats;

pub use acceptor::StartError;
pub use config::Config;
pub use control::Handle;
pub use server::{Ending, Server};
pub use stats::Stats;
