//! The report as one page that needs no network: a cell opens its explanation.

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

/// Writes faults.html.
pub fn write(results: &Results, directory: &Path) -> Result<(), String> {
    let page = Page { results, verdicts: Verdict::ALL, took: time(results.took) };
    super::write(&directory.join("faults.html"), page.render().map_err(|error| error.to_string())?)
}
