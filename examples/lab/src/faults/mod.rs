//! Which faults does a server survive? Numbered cases for any server that answers what it receives.
//!
//! A [`case::Case`] is a client that does one bad thing, and the verdict on what the server does then. [`runner`] starts a
//! fresh server for each case; [`report`] tells a reader what came of it.

mod case;
mod cases;
mod child;
mod client;
mod protocol;
mod report;
mod runner;
mod servers;
mod trial;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;

use self::case::{Numbered, all};
use self::protocol::{Answer, Framing, Protocol};
use self::report::table::Table;
use self::report::{html, json, terminal};
use self::servers::{Origin, Server};
use crate::support::interrupt::Interrupt;

/// Shows which faults a server survives: numbered cases, each on a fresh server, each byte checked
///
/// Without --server and --connect, the servers of this project are tested. Exit status: 0 if no case failed, 1 if one did
/// or could not be run, or if the run was interrupted, 2 on bad arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    /// A server to test; {port} in its command stands for the port on which it must listen. It must stay in the
    /// foreground
    #[arg(long, value_name = "NAME=COMMAND", value_parser = servers::parse)]
    server: Vec<(String, Vec<String>)>,

    /// A server that runs already; the cases that need its process are then not applicable
    #[arg(long, value_name = "ADDR:PORT", value_parser = servers::resolve)]
    connect: Vec<SocketAddr>,

    /// Only these servers of this project
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = servers::project_name,
          conflicts_with_all = ["server", "connect"])]
    project: Vec<String>,

    /// What these servers send to each client first; \n is a newline
    #[arg(long, value_name = "TEXT", default_value_t = escaped(okloop::BANNER), value_parser = unescaped)]
    banner: String,

    /// What stands before each answer; the letter n in braces is its number, from 1
    #[arg(long, value_name = "TEXT", default_value_t = escaped(okloop::PREFIX), value_parser = unescaped)]
    prefix: String,

    /// What is answered in one piece
    #[arg(long, default_value = "chunks")]
    framing: Framing,

    /// How an answer repeats what the client has sent
    #[arg(long, default_value = "same")]
    answer: Answer,

    /// The most bytes that one answer repeats, with framing by chunks
    #[arg(long, value_name = "BYTES", default_value_t = okloop::CHUNK, value_parser = positive)]
    chunk: usize,

    /// Only these cases or groups of cases
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = case_name)]
    only: Vec<String>,

    /// Not these cases or groups of cases
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = case_name)]
    skip: Vec<String>,

    /// List the cases, and run none
    #[arg(long)]
    list: bool,

    /// How long a client waits for the next byte
    #[arg(long, value_name = "SECONDS", default_value = "4", value_parser = seconds)]
    patience: Duration,

    /// How many servers are tested together, in cases that do not compare times [default: the number of processors]
    #[arg(long, value_name = "N", value_parser = positive)]
    jobs: Option<usize>,

    /// Where faults.html, faults.json and faults.xml for CI systems are written
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    out: PathBuf,

    /// Write the table as Markdown, and as a picture beside it (.svg)
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// A table that --markdown has written: any other verdict fails, if it comes three times, and the same verdicts pass
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> ExitCode {
    let cases = selected(arguments);
    if arguments.list {
        terminal::list(&cases);
        return ExitCode::SUCCESS;
    }
    match try_run(arguments, &cases) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(arguments: &Arguments, cases: &[Numbered]) -> Result<bool, String> {
    let committed = arguments.expect.as_deref().map(Table::read).transpose()?;
    let servers = servers(arguments)?;
    // Each session is an open file here too. What the servers inherit is as high.
    rlimit::increase_nofile_limit(u64::MAX).map_err(|error| format!("the limit of open files: {error}"))?;
    let interrupt = Interrupt::catch().map_err(|failure| failure.to_string())?;

    if !(arguments.server.is_empty() && arguments.connect.is_empty()) {
        let objections = runner::objections(&servers, arguments.patience, &interrupt);
        if !objections.is_empty() {
            return Err(objections.join("\n"));
        }
    }
    let jobs = arguments.jobs.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let results = runner::run(servers, cases, arguments.patience, jobs, committed.as_ref(), &interrupt);
    terminal::failures(&results);
    json::write(&results, &arguments.out)?;
    html::write(&results, &arguments.out)?;
    let table = Table::of(&results);
    if let Some(file) = &arguments.markdown {
        table.write(file)?;
    }
    terminal::summary(&results, &arguments.out);
    if results.interrupted {
        return Ok(false);
    }
    match committed {
        Some(committed) => Ok(committed.agrees_with(&table)),
        None => Ok(results.are_good()),
    }
}

fn servers(arguments: &Arguments) -> Result<Vec<Server>, String> {
    let protocol = Protocol {
        banner: arguments.banner.clone().into_bytes(),
        prefix: arguments.prefix.clone().into_bytes(),
        framing: arguments.framing,
        answer: arguments.answer,
        chunk: arguments.chunk,
    };
    let server =
        |name: &str, origin| Server { name: name.to_owned(), origin, protocol: protocol.clone(), more: None };
    let started = arguments.server.iter().map(|(name, words)| server(name, Origin::Command(words.clone())));
    let running =
        arguments.connect.iter().map(|&address| server(&address.to_string(), Origin::Address(address)));
    let given: Vec<Server> = started.chain(running).collect();
    if given.is_empty() { servers::of_the_project(&arguments.project) } else { Ok(given) }
}

fn selected(arguments: &Arguments) -> Vec<Numbered> {
    let named = |names: &[String], case: &Numbered| {
        names.iter().any(|name| *name == case.case.name || *name == case.group.name || *name == case.number())
    };
    let is_selected = |case: &Numbered| {
        (arguments.only.is_empty() || named(&arguments.only, case)) && !named(&arguments.skip, case)
    };
    all().filter(is_selected).collect()
}

fn case_name(text: &str) -> Result<String, String> {
    let known = all().any(|case| text == case.case.name || text == case.group.name || text == case.number());
    if known {
        Ok(text.to_owned())
    } else {
        Err("no case or group has this name; --list shows them".to_owned())
    }
}

fn escaped(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

#[expect(clippy::unnecessary_wraps, reason = "clap's parsers return a Result")]
fn unescaped(text: &str) -> Result<String, String> {
    Ok(text.replace("\\r", "\r").replace("\\n", "\n"))
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let duration = Duration::try_from_secs_f64(number).ok().filter(|duration| !duration.is_zero());
    duration
        .filter(|duration| *duration <= trial::LIMIT)
        .ok_or_else(|| "more than 0 and at most 30".to_owned())
}
