//! Which faults does a server survive? Numbered cases for any server that answers what it receives.
//!
//! A [`case::Case`] is a client that does one bad thing, and the verdict on what the server does then. [`runner`] starts a
//! fresh server for each case; [`report`] tells a reader what came of it.

mod answers;
mod case;
mod cases;
mod client;
mod report;
mod runner;
mod trial;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;

use self::case::{Case, all};
use self::report::table::Table;
use self::report::terminal;
use self::runner::Runner;
use crate::support::{
    Added, Answer, BANNER, By, CHUNK, Candidate, Descendants, End, Failure, Framing, Interrupt, PREFIX,
    Protocol, candidates, prepare, programs, words,
};

/// Shows which faults a server survives: numbered cases, each on a fresh server, each byte checked
///
/// Without --server and --connect, the servers of this project are tested. Exit status: 0 if no case failed, 1 if one did
/// or could not be run, or if the run was interrupted, 2 on bad arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    added: Added,

    /// What these servers send to each client first; \n is a newline
    #[arg(long, value_name = "TEXT", default_value_t = escaped(BANNER), value_parser = unescaped)]
    banner: String,

    /// What stands before each answer; the letter n in braces is its number, from 1
    #[arg(long, value_name = "TEXT", default_value_t = escaped(PREFIX), value_parser = unescaped)]
    prefix: String,

    /// What is answered in one piece
    #[arg(long, default_value = "chunks")]
    framing: Framing,

    /// How an answer repeats what the client has sent
    #[arg(long, default_value = "same")]
    answer: Answer,

    /// The most bytes that one answer repeats, with framing by chunks
    #[arg(long, value_name = "BYTES", default_value_t = NonZeroUsize::new(CHUNK).expect("it has bytes"))]
    chunk: NonZeroUsize,

    /// What a client sends to ask for the end, for example quit\n
    #[arg(long, value_name = "TEXT", value_parser = unescaped)]
    end: Option<String>,

    /// What these servers then send last
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = unescaped, requires = "end")]
    goodbye: String,

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
    #[arg(long, value_name = "SECONDS", default_value = "4", value_parser = |text: &str| words::seconds(text, 0.001..=30.0))]
    patience: Duration,

    /// Where faults.html and the servers' logs are written
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
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let cases = selected(arguments);
    if arguments.list {
        terminal::list(&cases);
        return Ok(());
    }
    let committed = arguments.expect.as_deref().map(Table::read).transpose()?;
    let added = arguments.added.candidates(&arguments.protocol())?;
    let of_the_project = candidates::of_the_project(By::Faults)?;
    let interrupt = Interrupt::catch()?;
    prepare(&arguments.out)?;
    arguments.markdown.iter().filter_map(|file| file.parent()).try_for_each(prepare)?;
    // Each session is an open file here too. What the servers inherit is as high.
    rlimit::increase_nofile_limit(u64::MAX).map_err(Failure::system("The limit of open files"))?;
    // Servers that left their process group.
    let _descendants = Descendants;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let logs = &arguments.out.join("logs");
    let runner = Runner { patience: arguments.patience, jobs, logs, expected: committed.as_ref(), interrupt };

    let servers = if added.is_empty() {
        programs::build(of_the_project.iter().map(Candidate::program), &runner.interrupt)?;
        of_the_project
    } else {
        let objections = runner.objections(&added);
        if !objections.is_empty() {
            return Err(Failure::Judged(objections.join("\n")));
        }
        added
    };
    let results = runner.run(servers, &cases);
    terminal::failures(&results);
    report::write_page(&results, &arguments.out.join("faults.html"))?;
    let table = Table::of(&results);
    if let Some(file) = &arguments.markdown {
        table.write(file)?;
    }
    terminal::summary(&results, &arguments.out);
    if results.interrupted {
        return Err(Failure::Judged("the run was interrupted".to_owned()));
    }
    let objections = match &committed {
        Some(committed) => committed.differences(&table),
        None if results.are_good() => Vec::new(),
        None => vec!["a case failed, or could not be run".to_owned()],
    };
    if objections.is_empty() { Ok(()) } else { Err(Failure::Judged(objections.join("\n"))) }
}

impl Arguments {
    fn protocol(&self) -> Protocol {
        let (banner, prefix) = (self.banner.clone().into_bytes(), self.prefix.clone().into_bytes());
        let end = self
            .end
            .clone()
            .map(|request| End { request: request.into_bytes(), goodbye: self.goodbye.clone().into_bytes() });
        Protocol { banner, prefix, framing: self.framing, answer: self.answer, chunk: self.chunk.get(), end }
    }
}

fn selected(arguments: &Arguments) -> Vec<Case> {
    let named = |names: &[String], case: &Case| names.iter().any(|name| is_called(case, name));
    let is_selected = |case: &Case| {
        (arguments.only.is_empty() || named(&arguments.only, case)) && !named(&arguments.skip, case)
    };
    all().into_iter().filter(is_selected).collect()
}

fn is_called(case: &Case, name: &str) -> bool {
    [&case.number, &case.name, &case.group].contains(&&name.to_owned())
}

fn case_name(text: &str) -> Result<String, String> {
    if all().iter().any(|case| is_called(case, text)) {
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
