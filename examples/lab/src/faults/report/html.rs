//! The report as one page that needs no network, in which a cell opens its explanation, and as `JUnit` XML, which CI
//! systems read: a test suite for each server.

use std::path::Path;

use askama::Template;

use crate::faults::case::{Verdict, time};
use crate::faults::runner::Results;

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
pub fn write(results: &Results, directory: &Path) -> Result<(), String> {
    let page = Page { results, verdicts: Verdict::ALL, took: time(results.took) };
    super::write(&directory.join("faults.html"), page.render().map_err(|error| error.to_string())?)?;
    let sum = |verdict: usize| results.counts().iter().map(|counts| counts[verdict]).sum();
    let suites =
        Suites { results, failures: sum(1), errors: sum(3) }.render().map_err(|error| error.to_string())?;
    super::write(&directory.join("faults.xml"), suites)
}
