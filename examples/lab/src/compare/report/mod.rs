//! The results: tables in the terminal, a page with pictures, and a file with every figure.
//!
//! The words of the tables are in `sections`, so that the terminal and the page cannot differ.

mod charts;
mod curves;
mod json;
mod notes;
mod sections;
mod text;

use std::path::Path;
use std::time::Duration;

use askama::Template;

use self::charts::Chart;
use self::sections::{Row, Section};
use crate::compare::rounds::{Cell, Summary};
use crate::compare::search::Sweep;
use crate::compare::sweep;
use crate::support::{Candidate, Failure, Machine, output};

/// The pictures that the project's documents show.
const PUBLISHED: [&str; 3] = ["cpu", "memory", "rates"];

/// Everything that was measured, and how.
pub struct Report {
    /// When and where it was measured.
    pub occasion: Occasion,
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

/// When and where a run was begun.
pub struct Occasion {
    /// The date and the time, in UTC.
    pub date: String,
    /// The words with which this program was started.
    pub command_line: Vec<String>,
    /// The machine, as it was before.
    pub machine: Machine,
}

/// The page. It needs nothing else: no network, no script, no file beside it.
#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'a> {
    heading: &'a [String],
    charts: &'a [Chart],
    sections: &'a [Section],
    notes: &'a [String],
}

impl Report {
    /// The tables, for a terminal and as Markdown.
    pub fn tables(&self) -> String {
        text::render(&notes::heading(self), &sections::all(self))
    }

    /// Writes `report.html`, its pictures as files of their own, and `results.json`.
    pub fn write(&self, directory: &Path) -> Result<(), Failure> {
        let charts = charts::all(self);
        let (heading, sections, notes) = (notes::heading(self), sections::all(self), notes::caveats(self));
        let page = Page { heading: &heading, charts: &charts, sections: &sections, notes: &notes };
        let page = page.render().expect("writing to a string does not fail");
        let files = [("report.html".to_owned(), page), ("results.json".to_owned(), json::render(self))];
        let pictures = charts.into_iter().map(Chart::file);
        write_all(directory, files.into_iter().chain(pictures))
    }

    /// Writes what the project's documents show: the tables, and some of the pictures.
    pub fn publish(&self, directory: &Path) -> Result<(), Failure> {
        let pictures = charts::all(self).into_iter().filter(|chart| PUBLISHED.contains(&chart.name));
        let tables = [("compare.md".to_owned(), self.tables())].into_iter();
        write_all(directory, tables.chain(pictures.map(Chart::file)))
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

    /// A knee as a share of the first server's, with the spread over the rounds; none if that one has no knee, or if the
    /// load set it.
    fn knee_of_first(&self, sweep: &Sweep) -> Option<Summary> {
        let first = self.sweeps.first()?.as_ref()?.as_ref().ok()?;
        let of_first = first.knee.rate.filter(|_| !first.knee.is_limit_of_load)?;
        let share = sweep.knee.rate? / of_first;
        // In one round both meet the same machine.
        let shares =
            sweep.knees.iter().zip(&first.knees).filter_map(|(knee, of_first)| Some((*knee)? / (*of_first)?));
        Some(Summary { median: share, ..Summary::of(shares.collect()).unwrap_or(Summary::single(share)) })
    }
}

/// Writes all files that can be written. The error names the others.
fn write_all(directory: &Path, files: impl Iterator<Item = (String, String)>) -> Result<(), Failure> {
    let failed = files.filter_map(|(name, text)| output::write(&directory.join(name), text).err());
    let failed: Vec<_> = failed.map(|failure| failure.to_string()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::System(failed.join("\n"))) }
}
