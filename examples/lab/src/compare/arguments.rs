//! The command line.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, value_parser};

use crate::compare::measure::OTHER_FILES;
use crate::compare::workload::CHAT_CLIENTS;
use crate::compare::{HOSTS, PORTS};
use crate::support::{Added, By, Candidate, Failure, candidates, words};

/// What each server costs, as the sessions grow: the same load on each in turn, every answer checked
///
/// It compares okloop with threads, poll(2), the smallest event loop, tokio and Python's asyncio, and chats on four of
/// them. It prints tables, and writes a page with pictures and all figures.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    added: Added,

    /// Only these of the project's servers
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', conflicts_with = "without")]
    only: Vec<String>,

    /// All of the project's servers but these
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    without: Vec<String>,

    /// The numbers of sessions [default: 10,100,1000,10000, or up to 1000 with --quick]. A chat has the greatest of them,
    /// between 100 and 10,000 [default: 1000, or 100 with --quick]
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=1_000_000))]
    sessions: Vec<u32>,

    /// Add as many sessions as the limit of open files and the load's ports (320,000) allow
    #[arg(long)]
    to_limit: bool,

    /// How many clients the crowd has, which sends without a pause
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    pub active: u32,

    /// How often each measurement is repeated [default: 3, or 5 with --quick]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,

    /// How long each measurement takes [default: 0.3, or 0.06 with --quick]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| words::seconds(text, 0.01..=3600.0))]
    seconds: Option<Duration>,

    /// Where the report and the figures are written
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub output: PathBuf,

    /// Also write what the project's documents show: the tables as Markdown, and pictures
    #[arg(long, value_name = "DIR")]
    pub publish: Option<PathBuf>,

    /// Compare chats alone: the servers of --server and --connect send each line to all other clients
    #[arg(long)]
    chat: bool,

    /// A first impression within a minute: shorter measurements, and more rounds
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    /// The numbers of sessions, each once, in order.
    pub fn sessions(&self, file_limit: u64) -> Vec<usize> {
        let mut sessions: Vec<usize> = match (self.sessions.is_empty(), self.quick) {
            (false, _) => self.sessions.iter().map(|&sessions| sessions as usize).collect(),
            (true, true) => vec![10, 100, 1000],
            (true, false) => vec![10, 100, 1000, 10_000],
        };
        if self.to_limit {
            let ports = HOSTS.1 as usize * PORTS.len();
            let files = usize::try_from(file_limit.saturating_sub(OTHER_FILES));
            sessions.push(files.map_or(ports, |files| files.clamp(1, ports)));
        }
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    /// How many clients a chat has.
    pub fn chat_clients(&self) -> usize {
        let most = self.sessions.iter().max().map(|&sessions| sessions as usize);
        most.unwrap_or(if self.quick { 100 } else { 1000 }).clamp(CHAT_CLIENTS.0, CHAT_CLIENTS.1)
    }

    /// How often each measurement is repeated.
    pub fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 5 } else { 3 }, |rounds| rounds as usize)
    }

    /// How long each measurement takes.
    pub fn time(&self) -> Duration {
        self.seconds.unwrap_or(Duration::from_millis(if self.quick { 60 } else { 300 }))
    }

    /// The servers that are compared: those of the project that the operator selects, okloop first, and those that he
    /// adds. And how many of them are the project's.
    pub fn contenders(&self) -> Result<(Vec<Candidate>, usize), Failure> {
        let mut contenders = if self.chat { Vec::new() } else { candidates::of_the_project(By::Compare)? };
        contenders.extend(candidates::of_the_project(By::CompareChats)?);
        contenders.sort_by_key(|contender| contender.name != "okloop");
        let known: Vec<_> = contenders.iter().map(|contender| contender.name.clone()).collect();
        if let Some(unknown) = self.only.iter().chain(&self.without).find(|name| !known.contains(name)) {
            let known = known.join(", ");
            return Err(Failure::Usage(format!("no server is called {unknown}; there are {known}")));
        }
        contenders.retain(|Candidate { name, .. }| {
            (self.only.is_empty() || self.only.contains(name)) && !self.without.contains(name)
        });
        let own = contenders.len();
        let added = self.added.candidates(&candidates::okloop())?;
        contenders.extend(added.into_iter().map(|server| Candidate { is_chat: self.chat, ..server }));
        let mut names = HashSet::new();
        match contenders.iter().find(|contender| !names.insert(&contender.name)) {
            Some(twice) => Err(Failure::Usage(format!("two servers are called {}", twice.name))),
            None => Ok((contenders, own)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::support::server::BILLION;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn no_limit_of_open_files_asks_for_more_sessions_than_the_load_has_ports() {
        let arguments = Command::parse_from(["compare", "--to-limit", "--sessions=10"]).arguments;
        assert_eq!(arguments.sessions(1024), [10, 984]);
        assert_eq!(arguments.sessions(BILLION), [10, 320_000]);
        assert_eq!(arguments.sessions(u64::MAX), [10, 320_000]);
        assert_eq!(arguments.sessions(8), [1, 10]);
    }
}
