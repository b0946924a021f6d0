//! The command line.

use std::collections::HashSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, value_parser};

use crate::compare::contender::{Contender, Origin};
use crate::compare::ladder;
use crate::compare::measure::OTHER_FILES;
use crate::support::failure::Failure;
use crate::support::words;

/// What each server costs, as the sessions grow: the same load on each in turn, every answer checked
///
/// It compares okloop with threads, poll(2), the smallest event loop, tokio and Python's asyncio. It prints tables, and
/// writes a page with pictures and all figures.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One more server, as NAME=COMMAND with {port} in it; may be given again
    #[arg(long = "server", value_name = "NAME=COMMAND", value_parser = server)]
    servers: Vec<Contender>,

    /// One more server that runs already; only its answers are measured; may be given again
    #[arg(long, value_name = "HOST:PORT")]
    connect: Vec<String>,

    /// Let --connect go to another machine than this one: only to one that you may load
    #[arg(long)]
    remote: bool,

    /// Only these of the project's servers
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', conflicts_with = "without")]
    only: Vec<String>,

    /// All of the project's servers but these
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    without: Vec<String>,

    /// The numbers of sessions [default: 10,100,1000,10000, or up to 1000 with --quick]
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=1_000_000))]
    sessions: Vec<u32>,

    /// Add as many sessions as the limit of open files allows
    #[arg(long)]
    to_limit: bool,

    /// How many clients the crowd has, which sends without a pause
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    active: u32,

    /// How often each measurement is repeated [default: 3, or 1 with --quick]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,

    /// How long each measurement takes [default: 0.3, or 0.15 with --quick]
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| words::seconds(text, 0.01))]
    seconds: Option<Duration>,

    /// Where the report and the figures are written
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub output: PathBuf,

    /// Also write what the project's documents show: the tables as Markdown, and pictures
    #[arg(long, value_name = "DIR")]
    pub publish: Option<PathBuf>,

    /// A first impression within half a minute
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    /// The numbers of sessions, each once, in order.
    pub fn sessions(&self, file_limit: u64) -> Vec<usize> {
        let given = self.sessions.iter().map(|&sessions| sessions as usize);
        let mut sessions: Vec<usize> = match (self.sessions.is_empty(), self.quick) {
            (false, _) => given.collect(),
            (true, true) => vec![10, 100, 1000],
            (true, false) => vec![10, 100, 1000, 10_000],
        };
        if self.to_limit {
            sessions.extend(usize::try_from(file_limit.saturating_sub(OTHER_FILES)));
        }
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }

    /// How many clients the crowd has.
    pub fn active(&self) -> usize {
        self.active as usize
    }

    /// How often each measurement is repeated.
    pub fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 1 } else { 3 }, |rounds| rounds as usize)
    }

    /// How long each measurement takes.
    pub fn time(&self) -> Duration {
        self.seconds.unwrap_or(Duration::from_millis(if self.quick { 150 } else { 300 }))
    }

    /// The servers that are compared: those of the project that the operator selects, and those that he adds.
    pub fn contenders(&self) -> Result<Vec<Contender>, Failure> {
        let of_the_project = self.selected(ladder::contenders()?)?;
        let contenders: Vec<_> = of_the_project.into_iter().chain(self.added()?).collect();
        let mut names = HashSet::new();
        match contenders.iter().find(|contender| !names.insert(&contender.name)) {
            Some(twice) => Err(Failure::Usage(format!("two servers are called {}", twice.name))),
            None => Ok(contenders),
        }
    }

    fn selected(&self, mut contenders: Vec<Contender>) -> Result<Vec<Contender>, Failure> {
        let is_known = |name: &&String| contenders.iter().any(|contender| contender.name == **name);
        if let Some(unknown) = self.only.iter().chain(&self.without).find(|name| !is_known(name)) {
            let names: Vec<_> = contenders.iter().map(|contender| contender.name.as_str()).collect();
            let names = names.join(", ");
            return Err(Failure::Usage(format!("no server is called {unknown}; there are {names}")));
        }
        contenders.retain(|contender| {
            let is_wanted = self.only.is_empty() || self.only.contains(&contender.name);
            is_wanted && !self.without.contains(&contender.name)
        });
        Ok(contenders)
    }

    fn added(&self) -> Result<Vec<Contender>, Failure> {
        let running = self.connect.iter().map(|place| {
            let address = address(place, self.remote);
            let address =
                address.map_err(|problem| Failure::Usage(format!("--connect {place}: {problem}")))?;
            Ok(Contender { name: place.clone(), origin: Origin::Address(address) })
        });
        self.servers.iter().cloned().map(Ok).chain(running).collect()
    }
}

fn server(text: &str) -> Result<Contender, String> {
    let (name, command) = text.split_once('=').ok_or("NAME=COMMAND is expected")?;
    let is_plain = |character: char| character.is_alphanumeric() || "-_.+ ".contains(character);
    if name.trim().is_empty() || !name.chars().all(is_plain) {
        return Err("a name has only letters, digits, '-', '_', '.' and '+'".to_owned());
    }
    if !command.contains("{port}") {
        return Err("the command has no {port} in it".to_owned());
    }
    Ok(Contender::from_command_line(name, command))
}

fn address(place: &str, remote: bool) -> Result<SocketAddr, String> {
    let mut addresses = place.to_socket_addrs().map_err(|error| error.to_string())?;
    let address = addresses.next().ok_or("no such address")?;
    if !address.ip().is_loopback() && !remote {
        return Err("not on this machine; --remote says that you mean it".to_owned());
    }
    Ok(address)
}
