//! The table as a picture: a square for each verdict. The cases that the first servers survive come first, so that the
//! failures form a staircase.

use super::table::{Row, Table};
use crate::faults::case::Verdict;
use crate::support::picture::{Picture, Point};

/// The width of the cases' names, and the height of the servers' (px).
const MARGIN: Point = (172.0, 166.0);
/// The distance of two squares (px).
const STEP: Point = (25.0, 17.0);
/// The height of the legend (px).
const LEGEND: f64 = 30.0;

/// Draws the table as SVG.
pub fn draw(table: &Table) -> String {
    let mut rows: Vec<&Row> = table.rows.iter().collect();
    rows.sort_by_key(|row| (survivors_begin(row), failures(row)));
    let place =
        |column: usize, line: usize| (MARGIN.0 + column as f64 * STEP.0, MARGIN.1 + line as f64 * STEP.1);
    let (right, bottom) = place(table.servers.len(), rows.len());
    let mut picture = Picture::new("Which server survives which fault", right + 12.0, bottom + LEGEND + 8.0);
    let used = |verdict: &Verdict| rows.iter().any(|row| row.verdicts.contains(verdict));
    Verdict::ALL.into_iter().filter(used).for_each(|verdict| define(&mut picture, verdict));
    for (column, server) in table.servers.iter().enumerate() {
        let (x, y) = (place(column, 0).0 + 17.0, MARGIN.1 - 7.0);
        picture.add(format_args!("<text transform=\"translate({x} {y}) rotate(-90)\">{server}</text>"));
    }
    let mut edge = Vec::new();
    for (line, row) in rows.iter().enumerate() {
        let middle = place(0, line).1 + 8.5;
        picture.text((8.0, middle), "start", &row.number);
        picture.text((34.0, middle), "start", &row.case);
        for (column, verdict) in row.verdicts.iter().enumerate() {
            square(&mut picture, *verdict, place(column, line));
        }
        // Between the last failure of the case and the servers that survive it.
        edge.extend([0, 1].map(|below| place(survivors_begin(row), line + below)));
    }
    picture.line("ink", &edge);
    for (nth, verdict) in Verdict::ALL.into_iter().filter(used).enumerate() {
        let (left, top) = (34.0 + nth as f64 * 130.0, bottom + 10.0);
        square(&mut picture, verdict, (left, top));
        picture.text((left + 30.0, top + 8.5), "start", verdict.words());
    }
    picture.svg()
}

/// The square of a verdict, to be used at many places.
fn define(picture: &mut Picture, verdict: Verdict) {
    let (colours, sign) = match verdict {
        Verdict::Passes => ("passes", "M9 8.5l2.5 2.5l4.5-5"),
        Verdict::Fails => ("fails", "M9.5 5.5l6 6m0-6l-6 6"),
        Verdict::NotApplicable | Verdict::CouldNotRun => ("other", "M9.5 8.5h6"),
    };
    picture.add(format_args!(
        "<defs><g id=\"{}\" class=\"verdict {colours}\"><rect x=\"2\" y=\"1.5\" width=\"21\" height=\"14\" rx=\"3\"/>\
         <path d=\"{sign}\"/></g></defs>",
        verdict.class()
    ));
}

fn square(picture: &mut Picture, verdict: Verdict, (x, y): Point) {
    picture.add(format_args!("<use href=\"#{}\" x=\"{x}\" y=\"{y}\"/>", verdict.class()));
}

/// From this server on, all survive that the case asks.
fn survivors_begin(row: &Row) -> usize {
    row.verdicts.iter().rposition(|verdict| is_failure(*verdict)).map_or(0, |last| last + 1)
}

fn failures(row: &Row) -> usize {
    row.verdicts.iter().filter(|verdict| is_failure(**verdict)).count()
}

fn is_failure(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Fails | Verdict::CouldNotRun)
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
