//! The tables as text: for the terminal, and as Markdown for the documents of the project.

use super::sections::{Row, Section};

/// The name of the page in Markdown.
pub const PAGE: &str = "compare.md";
/// How wide the text is, and a table in which no server has a longer name than those of the ladder.
const WIDTH: usize = 100;

/// The sections for a terminal, below what is special about this report.
pub fn terminal(heading: &[String], sections: &[Section]) -> String {
    let heading = heading.iter().map(|line| wrapped(line));
    let sections = sections.iter().map(|section| {
        let below = section.below.as_ref().map(|below| format!("\n{}", wrapped(below))).unwrap_or_default();
        let (title, sentence) = (section.title.to_uppercase(), wrapped(&section.sentence));
        format!("\n{title}\n{sentence}\n\n{}{below}", aligned(section))
    });
    heading.chain(sections).collect::<Vec<_>>().join("\n")
}

/// Columns of equal width. A heading, and a reason for missing figures, reach to the right edge.
fn aligned(section: &Section) -> String {
    let length = |cell: &str| cell.chars().count();
    let mut widths: Vec<usize> = section.head.iter().map(|cell| length(cell)).collect();
    for row in &section.rows {
        if let Row::Server(name, figures) = row {
            let figures = figures.iter().flatten();
            for (width, cell) in widths.iter_mut().zip([name].into_iter().chain(figures)) {
                *width = length(cell).max(*width);
            }
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &String>| {
        let padded = cells.zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        padded.collect::<Vec<_>>().join("  ")
    };
    let rows = section.rows.iter().map(|row| match row {
        Row::Heading(heading) => format!("-- {heading} --"),
        Row::Server(name, Ok(figures)) => line(&mut [name].into_iter().chain(figures)),
        Row::Server(name, Err(reason)) => format!("{name:width$}  {reason}", width = widths[0]),
    });
    [line(&mut section.head.iter())].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

fn wrapped(text: &str) -> String {
    textwrap::fill(text, WIDTH)
}

/// The whole page.
pub fn markdown(heading: &[String], sections: &[Section]) -> String {
    let title = "# What does each server cost?".to_owned();
    let paragraphs =
        [title].into_iter().chain(heading.iter().cloned()).chain(sections.iter().map(in_markdown));
    paragraphs.map(|text| format!("{text}\n")).collect::<Vec<_>>().join("\n")
}

fn in_markdown(section: &Section) -> String {
    let columns = section.head.len();
    let line = |mut cells: Vec<String>| {
        cells.resize(columns, String::new());
        // A bar would end the cell.
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let alignments = ["---"].into_iter().chain(["--:"].into_iter().cycle()).take(columns);
    let rows = section.rows.iter().map(|row| match row {
        Row::Heading(heading) => vec![format!("**{heading}**")],
        Row::Server(name, figures) => {
            let figures = figures.clone().unwrap_or_else(|reason| vec![reason]);
            [name.clone()].into_iter().chain(figures).collect()
        }
    });
    let head = [section.head.clone(), alignments.map(str::to_owned).collect()];
    let table: String = head.into_iter().chain(rows).map(line).collect();
    let below = section.below.as_ref().map(|below| format!("\n{below}\n")).unwrap_or_default();
    let text = format!("## {}\n\n{}\n\n{table}{below}", section.title, section.sentence);
    text.trim_end().to_owned()
}
