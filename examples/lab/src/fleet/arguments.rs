//! The command line.

use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::support::words;

/// Many okloop processes on one port, and more sessions than one process could hold
///
/// Some sessions are active, the others idle. Then one process drains while the others go on. Everything stays on
/// loopback and ends with the command, also after Ctrl-C.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Server processes
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = up_to(1000))]
    pub processes: usize,

    /// Open sessions
    #[arg(long, value_name = "S", default_value_t = 8000, value_parser = up_to(100_000_000))]
    pub sessions: usize,

    /// Sessions with a line each tenth of a second; at most all of them
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub active: usize,

    /// How long they send before one process drains
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = |text: &str| words::seconds(text, 0.1..=3600.0))]
    pub seconds: Duration,

    /// The port that the processes share, on 127.0.0.1; 0 lets the system choose
    #[arg(long, value_name = "N", default_value_t = 8888)]
    pub port: u16,

    /// Client processes, if you want more than the sessions need
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to(10_000))]
    pub clients: usize,
}

fn up_to(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}
