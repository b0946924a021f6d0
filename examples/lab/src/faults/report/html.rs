//! The report as one page that needs no network, in which a cell opens its explanation, and as `JUnit` XML, which CI
//! systems read: a test suite for each server.

use std::path::Path;

use askama::Template;

use crate::faults::case::Verdict;
use crate::faults::runner::Results;
use crate::support::failure::Failure;
use crate::support::output;
use crate::support::words::time;

#[derive(Template)]
#[template(path = "faults/report/faults.html")]
struct Page<'a> {
    results: &'a Results,
    verdicts: [Verdict; 4],
    took: String,
}

#[derive(Template)]
#[template(path = "faults/report/faults.xml")]
struct Suites<'a> {
    results: &'a Results,
    failures: usize,
    errors: usize,
}

/// Writes faults.html and faults.xml.
pub fn write(results: &Results, directory: &Path) -> Result<(), Failure> {
    let page = Page { results, verdicts: Verdict::ALL, took: time(results.took) };
    let page = page.render().expect("a template of numbers and texts does not fail");
    output::write(&directory.join("faults.html"), page)?;
    let sum = |verdict: usize| results.counts().iter().map(|counts| counts[verdict]).sum();
    let suites = Suites { results, failures: sum(1), errors: sum(3) };
    let suites = suites.render().expect("a template of numbers and texts does not fail");
    output::write(&directory.join("faults.xml"), suites)
}
