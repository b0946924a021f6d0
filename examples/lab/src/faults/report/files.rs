//! The report as files: one page that needs no network, in which a cell opens its explanation; `JUnit` XML, which CI systems
//! read, a test suite for each server; and everything that the run found, in JSON.

use std::path::Path;

use askama::Template;

use crate::faults::case::Verdict;
use crate::faults::runner::Results;
use crate::support::{Failure, write};

#[derive(Template)]
#[template(path = "faults/report/faults.html")]
struct Page<'a> {
    results: &'a Results,
}

#[derive(Template)]
#[template(path = "faults/report/faults.xml")]
struct Suites<'a> {
    results: &'a Results,
    /// How often each verdict came.
    sums: [usize; 4],
}

/// Writes all of them.
pub fn write_all(results: &Results, directory: &Path) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(results).expect("the report has no keys but strings");
    let sums = [0, 1, 2, 3].map(|verdict| results.counts().iter().map(|counts| counts[verdict]).sum());
    let filled = |page: askama::Result<String>| page.expect("a template of numbers and texts does not fail");
    write(&directory.join("faults.json"), json)?;
    write(&directory.join("faults.html"), filled(Page { results }.render()))?;
    write(&directory.join("faults.xml"), filled(Suites { results, sums }.render()))
}
