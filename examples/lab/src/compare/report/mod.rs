//! The results: tables in the terminal, a page with pictures, and a file with every figure.
//!
//! The words of the tables are in `sections`, so that the terminal and the page cannot differ.

mod charts;
mod curves;
mod json;
mod sections;
mod text;

use std::path::Path;
use std::time::Duration;

use askama::Template;

use self::sections::{Row, Section};
use crate::compare::rounds::Cell;
use crate::compare::search::Sweep;
use crate::compare::sweep;
use crate::compare::workload::IN_FLIGHT;
use crate::support::{Candidate, Failure, Origin, as_typed, output};

/// Everything that was measured, and how.
pub struct Report {
    /// When it began, in UTC.
    pub date: String,
    /// The words with which this program was started.
    pub command_line: Vec<String>,
    /// The machine, as it was before.
    pub machine: String,
    /// The open files that each process may have.
    pub file_limit: u64,
    /// What the kernel holds for the load's end of a session (bytes).
    pub end_of_session: Option<f64>,
    /// How often each measurement was to be made.
    pub rounds: usize,
    /// How long each took.
    pub time: Duration,
    /// The servers.
    pub contenders: Vec<Candidate>,
    /// The figures.
    pub cells: Vec<Cell>,
    /// How each contender answered growing rates, where it was tried.
    pub sweeps: Vec<Option<Result<Sweep, Failure>>>,
    /// Whether Ctrl-C came before the end.
    pub interrupted: bool,
}

/// The page. It needs nothing else: no network, no script, no file beside it.
#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'a> {
    report: &'a Report,
    heading: &'a [String],
    charts: &'a [(&'static str, String)],
    sections: &'a [Section],
}

impl Report {
    /// The tables, for a terminal and as Markdown.
    pub fn tables(&self) -> String {
        text::render(&heading(self), &sections::all(self))
    }

    /// Writes `report.html`, its pictures as files of their own, and `results.json`.
    pub fn write(&self, directory: &Path) -> Result<(), Failure> {
        let charts = charts::all(self);
        let (heading, sections) = (heading(self), sections::all(self));
        let page = Page { report: self, heading: &heading, charts: &charts, sections: &sections };
        let page = page.render().expect("writing to a string does not fail");
        let files = [("report.html".to_owned(), page), ("results.json".to_owned(), json::render(self))];
        write_all(directory, files.into_iter().chain(charts.into_iter().map(file)))
    }

    /// Writes what the project's documents show: the tables, and some of the pictures.
    pub fn publish(&self, directory: &Path) -> Result<(), Failure> {
        let pictures =
            charts::all(self).into_iter().filter(|(name, _)| ["cpu", "memory", "rates"].contains(name));
        let tables = [("compare.md".to_owned(), self.tables())].into_iter();
        write_all(directory, tables.chain(pictures.map(file)))
    }

    /// How the servers from this place on have failed, a line for each. What this machine lacks is no fault of theirs.
    pub fn objections(&self, first: usize) -> Vec<String> {
        let objection = |contender: usize| {
            let cells = self.cells.iter().filter(|cell| cell.contender == contender);
            let of_sweep = self.sweeps[contender].as_ref().and_then(|sweep| sweep.as_ref().err());
            let mut failures = cells.filter_map(|cell| cell.failure.as_ref()).chain(of_sweep);
            let failure = failures.find(|failure| failure.is_of_server())?;
            Some(format!("{}: {failure}", self.contenders[contender].name))
        };
        (first..self.contenders.len()).filter_map(objection).collect()
    }

    /// How many sessions sent lines to each server by the clock.
    fn swept_sessions(&self) -> usize {
        sweep::sessions(self.file_limit, self.contenders.iter().filter(|server| !server.is_chat).count())
    }
}

/// What is special about this report: when and where it was made, and what went wrong.
fn heading(report: &Report) -> Vec<String> {
    let command_line = as_typed(&report.command_line);
    let mut lines = vec![
        format!("{}, okloop {}: {command_line}", report.date, env!("CARGO_PKG_VERSION")),
        format!("{}. Open files a process: {}.", report.machine, report.file_limit),
    ];
    if report.interrupted {
        lines.push("Interrupted: these are the figures up to then.".to_owned());
    }
    let rounds = report.rounds;
    lines.push(if rounds > 1 {
        format!(
            "Compare the servers by the figures with \u{b1}: it is half the distance between the least and the greatest of \
             {rounds} rounds, in which they took turns. A smaller difference may be chance."
        )
    } else {
        "With a single round, a difference may be chance.".to_owned()
    });
    lines
}

fn file((name, svg): (&str, String)) -> (String, String) {
    (format!("{name}.svg"), svg)
}

/// Writes all files that can be written. The error names the first of the others.
fn write_all(directory: &Path, files: impl Iterator<Item = (String, String)>) -> Result<(), Failure> {
    let written = files.map(|(name, text)| output::write(&directory.join(name), text));
    written.fold(Ok(()), Result::and)
}
