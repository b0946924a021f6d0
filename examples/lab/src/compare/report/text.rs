//! The report as text: for the terminal, and as Markdown for the documents of the project.

use super::sections::{Row, Section};

/// How wide the sentences are. A table in which no server has a longer name than those of the ladder is little wider.
const WIDTH: usize = 100;

/// The whole report, below what is special about it.
pub fn render(heading: &[String], sections: &[Section]) -> String {
    let heading = heading.iter().map(|line| wrapped(line));
    let sections = sections.iter().map(|section| {
        let below = section.below.as_ref().map(|below| format!("\n\n{}", wrapped(below))).unwrap_or_default();
        format!("## {}\n\n{}\n\n{}{below}", section.title, wrapped(&section.sentence), table(section))
    });
    let parts = ["# What does each server cost?".to_owned()].into_iter().chain(heading).chain(sections);
    parts.collect::<Vec<_>>().join("\n\n") + "\n"
}

fn wrapped(text: &str) -> String {
    let options = textwrap::Options::new(WIDTH).word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}

/// Columns of equal width. A heading, and a reason for missing figures, may be longer.
fn table(section: &Section) -> String {
    let mut rows = vec![section.head.clone()];
    rows.extend(section.rows.iter().map(|row| match row {
        Row::Heading(heading) => vec![format!("**{heading}**")],
        Row::Server(name, Ok(figures)) => [name.clone()].into_iter().chain(figures.clone()).collect(),
        // A bar would end the cell.
        Row::Server(name, Err(reason)) => vec![name.clone(), reason.replace('|', "\\|")],
    }));
    let width = |column: usize| {
        let whole = rows.iter().filter(|row| row.len() == section.head.len());
        whole.map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..section.head.len()).map(width).collect();
    let ruler = widths.iter().enumerate().map(|(column, &width)| {
        if column == 0 { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
    });
    rows.insert(1, ruler.collect());
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!(" {cell:width$} |") } else { format!(" {cell:>width$} |") }
        });
        format!("|{}", cells.collect::<String>())
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
