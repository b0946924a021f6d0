//! What a reader gets: the table while it runs, the failures, and the same as a page and as a table.

pub mod picture;
pub mod table;
pub mod terminal;

use std::path::Path;

use askama::Template;

use super::case::{Stop, Verdict};
use super::runner::Results;
use crate::support::{Failure, write};

/// One page that needs no network, in which a cell opens its explanation.
#[derive(Template)]
#[template(path = "faults/report/faults.html")]
struct Page<'a> {
    results: &'a Results,
}

/// Writes the page.
pub fn write_page(results: &Results, file: &Path) -> Result<(), Failure> {
    write(file, Page { results }.render().expect("a template of numbers and texts does not fail"))
}
