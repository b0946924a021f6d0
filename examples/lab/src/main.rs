//! The laboratory: what servers cost, and what they survive. It works with this project's servers and with any other.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod faults;

/// Measures and tests the servers of this project, and any other server
#[derive(Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    Faults(faults::Arguments),
}

fn main() -> ExitCode {
    match Command::parse().part {
        Part::Faults(arguments) => faults::run(&arguments),
    }
}
