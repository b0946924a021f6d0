//! The report in the terminal.

use tabled::builder::Builder;
use tabled::settings::object::{Cell, Columns, Segment};
use tabled::settings::{Alignment, Padding, Span, Style};

use super::sections::Section;

/// How wide the text is, and a table in which no server has a longer name than those of the ladder.
const WIDTH: usize = 100;

/// The sections as tables, below what is special about this report.
pub fn render(heading: &[String], sections: &[Section]) -> String {
    let heading = heading.iter().map(|line| wrapped(line));
    let sections = sections.iter().map(|section| {
        let below = section.below.as_ref().map(|below| format!("\n{}", wrapped(below))).unwrap_or_default();
        let (title, sentence) = (section.title.to_uppercase(), wrapped(&section.sentence));
        format!("\n{title}\n{sentence}\n\n{}{below}", table(section))
    });
    heading.chain(sections).collect::<Vec<_>>().join("\n")
}

fn table(section: &Section) -> String {
    let columns = section.head.len();
    let mut builder = Builder::default();
    builder.push_record(&section.head);
    // Cells that reach to the right edge: headings of groups, and reasons for missing figures.
    let mut long = Vec::new();
    for group in &section.groups {
        if let Some(heading) = &group.heading {
            long.push((builder.count_records(), 0));
            builder.push_record([format!("-- {heading} --")]);
        }
        for row in &group.rows {
            let server = [row.server.clone()].into_iter();
            match &row.figures {
                Ok(figures) => builder.push_record(server.chain(figures.iter().cloned())),
                Err(reason) => {
                    long.push((builder.count_records(), 1));
                    builder.push_record(server.chain([reason.clone()]));
                }
            }
        }
    }
    let mut table = builder.build();
    table.with(Style::empty()).modify(Segment::all(), (Padding::new(0, 2, 0, 0), Alignment::right()));
    for column in (0..columns).filter(|&column| Section::is_text(column)) {
        table.modify(Columns::one(column), Alignment::left());
    }
    for (row, column) in long {
        let span = Span::column(isize::try_from(columns - column).expect("a table has few columns"));
        table.modify(Cell::new(row, column), (span, Alignment::left()));
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn wrapped(text: &str) -> String {
    textwrap::fill(text, WIDTH)
}
