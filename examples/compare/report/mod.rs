//! What is told in the end: a table in the terminal, a page with pictures, and a file with every figure.
//!
//! All three show the same thing. What they say in words is in `sections`, so that the table and the page cannot differ.

mod bars;
mod curves;
mod json;
mod notes;
mod page;
mod picture;
mod sections;
mod spans;
mod table;
mod theme;

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::contender::Contender;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::rounds::Cell;
use crate::syscalls::Calls;

/// Everything that was measured, and how.
pub struct Report {
    /// When and where it was measured.
    pub occasion: Occasion,
    /// The open files that each process may have there.
    pub file_limit: u64,
    /// How often each measurement was meant to be made.
    pub rounds: usize,
    /// How long each took.
    pub time: Duration,
    /// Who was measured.
    pub contenders: Vec<Contender>,
    /// The figures.
    pub cells: Vec<Cell>,
    /// The system calls of each contender, as far as they were counted.
    pub calls: Vec<Option<Result<Calls, Failure>>>,
    /// Whether all that was meant to be measured was.
    pub ending: Ending,
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

/// How the measuring ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All rounds were run.
    Complete,
    /// Ctrl-C came before.
    Interrupted,
}

impl Report {
    /// The tables for a terminal.
    pub fn table(&self) -> String {
        table::render(&sections::all(self), &notes::all(self))
    }

    /// Writes `report.html`, its pictures as files of their own, and `results.json`: all that can be written. The error
    /// names the others.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let charts = picture::charts(self);
        let page = page::render(self, &charts, &sections::all(self), &notes::all(self));
        let mut files =
            vec![("report.html".to_owned(), page), ("results.json".to_owned(), json::render(self))];
        files.extend(charts.into_iter().map(|chart| (format!("{}.svg", chart.name), chart.svg)));
        let failed = files.into_iter().filter_map(|(name, text)| {
            let path = directory.join(name);
            let error = fs::write(&path, text).err()?;
            Some(format!("{} could not be written: {error}", path.display()))
        });
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() { Ok(()) } else { Err(io::Error::other(failed.join("\n"))) }
    }
}
