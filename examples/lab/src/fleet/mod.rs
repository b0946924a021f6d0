//! `lab fleet`: many okloop processes on one port, and more sessions than one process could hold, all on this machine.
//!
//! ```sh
//! cargo run --release -p lab -- fleet
//! cargo run --release -p lab -- fleet --processes 53 --sessions 1000000 --active 1000 --seconds 30
//! ```
//!
//! With `--reuse-port` every process has a listening socket of its own on the port, and the kernel gives each new
//! session to one of them by a hash of its addresses and ports. The processes share nothing, so none waits for another.
//! And the limit of open files, often 20,000, holds for one process and not for the fleet.
//!
//! The clients are as many, so they are processes too: the laboratory runs itself again with the hidden command
//! `fleet-client`. Orders and reports are JSON, one value a line, over pipes:
//!
//! ```text
//!                 orders, reports                    sessions
//!   fleet ──┬──────────────────────► fleet-client 0 ═══════════╗        ╔══► okloop 0
//!           ├──────────────────────► fleet-client 1 ═══════════╬═ port ═╬══► okloop 1
//!           │        …                      …                  ║        ║        …
//!           └─ metrics over HTTP, SIGTERM ───────────────────────────────────► okloop N
//! ```
//!
//! Read `show` next, which is the run in its order; then `plan` (what so many sessions need), `server` and `crowd` (both
//! sides, seen from the parent), `client` (the load's own readiness loop), `message` and `memory` (the figures).

mod arguments;
mod client;
mod crowd;
mod memory;
mod message;
mod plan;
mod server;
mod show;

pub use self::arguments::Arguments;
pub use self::client::run as run_client;
pub use self::message::{Share, share};
pub use self::show::run;
