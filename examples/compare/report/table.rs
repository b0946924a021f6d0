//! The report in the terminal.

use super::sections::{Row, Section};

/// What stands between two columns.
const GAP: &str = "  ";
/// How wide a paragraph is.
const WIDTH: usize = 110;

/// The sections as tables, with the notes below.
pub fn render(sections: &[Section], notes: &[String]) -> String {
    let sections = sections.iter().map(|section| {
        let (title, sentence) = (section.title.to_uppercase(), wrapped(&section.sentence, ""));
        format!("{title}\n{sentence}\n{}", table(section))
    });
    let notes = notes.iter().map(|note| format!("* {}", wrapped(note, "  ")));
    format!("\n{}\n{}\n", sections.collect::<Vec<_>>().join("\n"), notes.collect::<Vec<_>>().join("\n"))
}

fn table(section: &Section) -> String {
    let width = |place: usize| {
        let cells = section.rows.iter().filter_map(|row| row.cell(place));
        cells.chain([section.head[place].as_str()]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..section.head.len()).map(width).collect();
    let aligned = |place: usize, cell: &String| {
        let width = widths[place];
        if section.is_text(place) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    };
    let line = |cells: &[String]| {
        let cells = cells.iter().enumerate().map(|(place, cell)| aligned(place, cell));
        format!("{}\n", cells.collect::<Vec<_>>().join(GAP).trim_end())
    };

    let rule = format!("{}\n", "-".repeat(widths.iter().sum::<usize>() + GAP.len() * (widths.len() - 1)));
    let written = |row: &Row| match &row.figures {
        Ok(figures) => line(&[row.about.as_slice(), figures].concat()),
        Err(reason) => [line(&row.about).trim_end(), GAP, reason, "\n"].concat(),
    };
    let mut text = line(&section.head);
    let mut earlier: Option<&Row> = None;
    for row in &section.rows {
        // A row that begins with something new is set apart, unless all do.
        if earlier.is_none_or(|earlier| row.about.len() > 1 && earlier.about[0] != row.about[0]) {
            text += &rule;
        }
        text += &written(row);
        earlier = Some(row);
    }
    text
}

/// The text in lines that fit, all but the first beginning with `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if line.chars().count() + word.chars().count() < WIDTH {
            *line += if line.trim().is_empty() { "" } else { " " };
            *line += word;
        } else {
            lines.push(format!("{indent}{word}"));
        }
    }
    lines.join("\n")
}
