//! The tables for the documents of the project.

use super::sections::{Group, Row, Section};

/// The name of the page.
pub const NAME: &str = "compare.md";

/// The whole page.
pub fn render(heading: &[String], sections: &[Section]) -> String {
    let title = "# What does each server cost?".to_owned();
    let paragraphs = [title].into_iter().chain(heading.iter().cloned());
    paragraphs
        .chain(sections.iter().map(section))
        .map(|text| format!("{text}\n"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn section(section: &Section) -> String {
    let columns = section.head.len();
    let alignments = (0..columns).map(|column| if Section::is_text(column) { "---" } else { "--:" });
    let head = [line(section.head.iter().map(String::as_str)), line(alignments)];
    let rows = section.groups.iter().flat_map(|group| rows_of(group, columns));
    let table = head.into_iter().chain(rows).collect::<Vec<_>>().join("\n");
    let below = section.below.as_ref().map(|below| format!("\n\n{below}")).unwrap_or_default();
    format!("## {}\n\n{}\n\n{table}{below}", section.title, section.sentence)
}

fn rows_of(group: &Group, columns: usize) -> impl Iterator<Item = String> {
    let heading = group.heading.as_ref().map(|heading| filled([format!("**{heading}**")].into(), columns));
    let row = move |row: &Row| {
        let figures = row.figures.clone().unwrap_or_else(|reason| vec![reason]);
        filled([row.server.clone()].into_iter().chain(figures).collect(), columns)
    };
    heading.into_iter().chain(group.rows.iter().map(row))
}

/// A row that has all columns.
fn filled(mut cells: Vec<String>, columns: usize) -> String {
    cells.resize(columns, String::new());
    // A bar would end the cell.
    line(cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().iter().map(String::as_str))
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}
