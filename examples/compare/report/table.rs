//! The report in the terminal.

use super::sections::{Row, Section};

/// What stands between two columns.
const GAP: &str = "  ";
/// How wide the text is, and a table in which no name is longer than those of the ladder.
const WIDTH: usize = 100;

/// The sections as tables, with the notes below.
pub fn render(sections: &[Section], notes: &[String]) -> String {
    let sections = sections.iter().map(|section| {
        let (title, sentence) = (section.title.to_uppercase(), wrapped(&section.sentence, ""));
        let below = section.below.as_ref().map(|below| wrapped(below, "") + "\n").unwrap_or_default();
        format!("{title}\n{sentence}\n\n{}{below}", table(section))
    });
    let notes = notes.iter().map(|note| wrapped(&format!("* {note}"), "  "));
    format!("\n{}\n{}\n", sections.collect::<Vec<_>>().join("\n"), notes.collect::<Vec<_>>().join("\n"))
}

fn table(section: &Section) -> String {
    let width = |place: usize| {
        let cells = section.rows.iter().filter_map(|row| row.cell(place));
        cells.chain([section.head[place].as_str()]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..section.head.len()).map(width).collect();
    let aligned = |place: usize, cell: &str| {
        let width = widths[place];
        if section.is_text(place) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.enumerate().map(|(place, cell)| aligned(place, cell));
        format!("{}\n", cells.collect::<Vec<_>>().join(GAP).trim_end())
    };

    let rule = widths.iter().sum::<usize>() + GAP.len() * (widths.len() - 1);
    let written = |row: &Row| match &row.figures {
        Ok(_) => line(&mut (0..).map_while(|place| row.cell(place))),
        Err(reason) => format!("{}{GAP}{reason}\n", aligned(0, &row.server)),
    };
    let mut lines = vec![line(&mut section.head.iter().map(String::as_str))];
    let mut group = None;
    for row in &section.rows {
        if group != Some(&row.group) {
            let heading = row.group.as_ref().map(|group| format!("-- {group} ")).unwrap_or_default();
            lines.push(format!("{heading:-<rule$}\n"));
        }
        lines.push(written(row));
        group = Some(&row.group);
    }
    lines.concat()
}

/// The text in lines that fit, all but the first beginning with `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if line.is_empty() || line.chars().count() + word.chars().count() < WIDTH {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        } else {
            lines.push(format!("{indent}{word}"));
        }
    }
    lines.join("\n")
}
