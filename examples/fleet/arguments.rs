//! The command line.

use std::time::Duration;

use clap::{Parser, Subcommand, value_parser};

/// Starts a fleet of okloop processes on one port and opens more sessions than one of them could hold: some type, the
/// others idle. Then one process is drained while the others go on. Everything stays on loopback and is ended at the
/// end, also after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "fleet", version)]
pub struct Arguments {
    /// Server processes
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=10_000))]
    processes: u32,

    /// Sessions that are open at once
    #[arg(long, value_name = "S", default_value_t = 8000, value_parser = value_parser!(u32).range(1..=100_000_000))]
    sessions: u32,

    /// Sessions in which somebody types, a line each tenth of a second; at most all of them
    #[arg(long, value_name = "N", default_value_t = 100)]
    typists: u32,

    /// How long they type before one process is drained
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub seconds: Duration,

    /// The port that the processes share, on 127.0.0.1; 0 lets the system choose
    #[arg(long, value_name = "N", default_value_t = 8888)]
    pub port: u16,

    /// Client processes, if more are wanted than the sessions need
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=10_000))]
    clients: u32,

    #[command(subcommand)]
    pub role: Option<Role>,
}

/// What this process is, if it is not the one that the operator started.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Role {
    /// Holds a share of the sessions; orders come on standard input, reports go to standard output
    #[command(hide = true)]
    Client,
}

impl Arguments {
    /// How many server processes there are to be.
    pub fn processes(&self) -> usize {
        self.processes as usize
    }

    /// How many sessions there are to be.
    pub fn sessions(&self) -> usize {
        self.sessions as usize
    }

    /// In how many of them somebody types.
    pub fn typists(&self) -> u32 {
        self.typists.min(self.sessions)
    }

    /// How many client processes there are to be at least.
    pub fn clients(&self) -> usize {
        self.clients as usize
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is expected")?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("from 0.1 to 3600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}
