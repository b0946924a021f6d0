//! What is told in the end: a table in the terminal, a page with pictures, and a file with every figure.
//!
//! All three show the same thing. What they say in words is in `sections`, so that the table and the page cannot differ.

mod bars;
mod curves;
mod json;
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
    /// Where it was measured.
    pub machine: Machine,
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
        table::render(&sections::all(self), &sections::notes(self))
    }

    /// Writes `report.html`, its pictures as files of their own, and `results.json`.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let charts = picture::charts(self);
        for chart in &charts {
            fs::write(directory.join(format!("{}.svg", chart.name)), &chart.svg)?;
        }
        let page = page::render(&self.machine, &charts, &sections::all(self), &sections::notes(self));
        fs::write(directory.join("report.html"), page)?;
        fs::write(directory.join("results.json"), json::render(self))
    }
}
