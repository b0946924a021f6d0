//! A fleet: many okloop processes on one port, and more sessions than one process could hold, all on this machine.
//!
//! ```sh
//! cargo run --release --example fleet
//! cargo run --release --example fleet -- --processes 53 --sessions 1000000 --typists 1000 --seconds 30
//! ```
//!
//! With `--reuse-port` every process has a listening socket of its own on the port, and the kernel gives each new
//! session to one of them by a hash of its addresses and ports. Nothing is shared between the processes, so nothing
//! is waited for; and the limit of open files, 20,000 in many places, is one process's limit and not the fleet's.
//!
//! The clients are as many, so they are processes too: this example runs itself again with the hidden command
//! `client`. The parent tells them what to do and hears how it went in JSON, a line each, over pipes:
//!
//! ```text
//!                 orders, reports                    sessions
//!   fleet ──┬──────────────────────► fleet client 0 ═══════════╗        ╔══► okloop 0
//!           ├──────────────────────► fleet client 1 ═══════════╬═ port ═╬══► okloop 1
//!           │        …                      …                  ║        ║        …
//!           └─ SIGUSR1, SIGTERM, log ────────────────────────────────────────► okloop N
//! ```
//!
//! Read on in `show`, which is what happens in the order in which it happens; then `plan` (what so many sessions need,
//! and whether this machine has it), `server` and `crowd` (the two sides, seen from the parent), `client` (the load's
//! own readiness loop), `answers` and `memory` (the figures).

mod answers;
mod arguments;
mod client;
mod counters;
mod crowd;
mod failure;
mod interrupt;
mod limits;
mod memory;
mod message;
mod plan;
mod server;
mod show;
mod words;

#[path = "../support/cargo.rs"]
mod cargo;
#[path = "../support/child.rs"]
mod child;
#[path = "../support/connect.rs"]
mod connect;
#[path = "../support/machine.rs"]
#[allow(dead_code, reason = "other examples ask whether it is busy")]
mod machine;
#[path = "../support/procfs.rs"]
#[allow(dead_code, reason = "other examples measure more than memory")]
mod procfs;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Role};
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.role {
        Some(Role::Client) => client::run(),
        None => show::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Not eprintln!, which panics where nobody reads it any more.
            let _ = writeln!(io::stderr(), "{failure}");
            // As a shell counts a program that SIGINT ended.
            if matches!(failure, Failure::Interrupted) { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}
