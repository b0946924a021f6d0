//! The laboratory: one command with a part for each question.
//!
//! ```text
//! cargo run --release -p lab -- compare    what each server costs
//! cargo run --release -p lab -- faults     which faults each server survives
//! cargo run --release -p lab -- fleet      many okloop processes on one port, and their sessions
//! cargo run --release -p lab -- record     what the loop does, as a page to step through
//! cargo run --release -p lab -- book       the course as one page in which the recordings move
//! ```
//!
//! Each part is a module with its own page of documentation. What they share is in `support`.
//!
//! All of it reads what Linux tells about processes (proc(5)). On other systems this crate is empty.

#![cfg(target_os = "linux")]
// A figure is a number for people: a count above 2^53 may lose its last digit.
#![allow(clippy::cast_precision_loss)]

mod book;
mod compare;
mod faults;
mod fleet;
mod record;
mod serve;
mod support;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::support::{Failure, complain};

#[derive(Debug, Parser)]
#[command(name = "lab", version, about = "Measures servers of telnet sessions on this machine")]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    Compare(compare::Arguments),
    Faults(faults::Arguments),
    Fleet(fleet::Arguments),
    Record(record::Arguments),
    Book(book::Arguments),
    #[command(hide = true)]
    Serve(serve::Arguments),
    /// Holds a share of a fleet's sessions: orders come on standard input, reports go to standard output
    #[command(hide = true)]
    FleetClient {
        /// The share, in JSON
        #[arg(value_parser = fleet::share)]
        share: fleet::Share,
    },
}

/// Runs the command with the arguments of this process.
pub fn run() -> ExitCode {
    let result = match arguments().part {
        Part::Compare(arguments) => compare::run(&arguments),
        Part::Faults(arguments) => faults::run(&arguments),
        Part::Fleet(arguments) => fleet::run(&arguments),
        Part::Record(arguments) => record::run(&arguments),
        Part::Book(arguments) => book::run(&arguments),
        Part::Serve(arguments) => serve::run(&arguments),
        Part::FleetClient { share } => fleet::run_client(&share),
    };
    let Err(failure) = result else { return ExitCode::SUCCESS };
    complain(format_args!("error: {failure}"));
    match failure {
        Failure::Usage(_) => ExitCode::from(2),
        // As a shell reports a program that SIGINT ended.
        Failure::Interrupted => ExitCode::from(130),
        _ => ExitCode::FAILURE,
    }
}

/// The arguments. Wrong ones end the program with one line and status 2.
fn arguments() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
        let is_help =
            error.exit_code() == 0 || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        if !is_help {
            complain(error.to_string().lines().next().unwrap_or_default());
            std::process::exit(2);
        }
        error.exit()
    })
}
