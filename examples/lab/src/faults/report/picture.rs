//! The table as a picture: a square for each verdict. The cases that the first servers survive come first, so that the
//! failures form a staircase.

use askama::Template;

use super::table::{Row, Table};
use crate::faults::case::Verdict;

/// The width of the cases' names, and the height of the servers' (px).
const MARGIN: (usize, usize) = (172, 166);
/// The distance of two squares (px).
const STEP: (usize, usize) = (25, 17);
/// The height of the legend (px).
const LEGEND: usize = 30;

#[derive(Template)]
#[template(path = "faults/report/picture.svg")]
struct Picture<'a> {
    servers: &'a [String],
    rows: Vec<&'a Row>,
    verdicts: Vec<Verdict>,
    size: (usize, usize),
    edge: String,
}

/// Draws the table as SVG.
pub fn draw(table: &Table) -> String {
    let mut rows: Vec<&Row> = table.rows.iter().collect();
    rows.sort_by_key(|row| (survivors_begin(row), failures(row)));
    let used = |verdict: &Verdict| rows.iter().any(|row| row.verdicts.contains(verdict));
    let verdicts = Verdict::ALL.into_iter().filter(used).collect();
    let size = (MARGIN.0 + table.servers.len() * STEP.0 + 12, MARGIN.1 + rows.len() * STEP.1 + LEGEND + 8);
    let picture = Picture { servers: &table.servers, edge: edge(&rows), rows, verdicts, size };
    picture.render().expect("a template of numbers and names does not fail")
}

/// From this server on, all survive.
fn survivors_begin(row: &Row) -> usize {
    row.verdicts.iter().rposition(|verdict| *verdict != Verdict::Passes).map_or(0, |last| last + 1)
}

fn failures(row: &Row) -> usize {
    row.verdicts.iter().filter(|verdict| **verdict != Verdict::Passes).count()
}

/// The line between the last failure of each case and the servers that survive it.
fn edge(rows: &[&Row]) -> String {
    let point = |(line, row): (usize, &&Row)| {
        let (x, top) = (MARGIN.0 + survivors_begin(row) * STEP.0, MARGIN.1 + line * STEP.1);
        format!("{x},{top} {x},{}", top + STEP.1)
    };
    rows.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_picture_shows_the_table() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults.md");
        let table = Table::read(&file).expect("the table is there");
        let picture = fs::read_to_string(file.with_extension("svg")).expect("the picture is there");
        assert!(picture == draw(&table), "write both again: lab faults --markdown examples/lab/faults.md");
    }
}
