//! The report as one page that needs nothing else: no network, no script, no file beside it.

use super::Report;
use super::picture::Chart;
use super::sections::Section;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --paper: #fffffe; --ground: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #30363d; --paper: #161b22; --ground: #0d1117; }
}
body { margin: 0 auto; max-width: 82rem; padding: 2rem 1.5rem 4rem; background: var(--ground); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.8rem; } h2 { margin: 2.5rem 0 .25rem; font-size: 1.25rem; }
p { margin: .25rem 0 1rem; max-width: 62rem; } .soft, figcaption, li { color: var(--soft); }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(34rem, 100%), 1fr)); gap: 1.25rem; }
figure { margin: 0; padding: 1rem; background: var(--paper); border: 1px solid var(--line); border-radius: .5rem; }
figure h3 { margin: 0 0 .5rem; font-size: 1.05rem; } figure svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; }
th.name, td.name, td.reason, th.group { text-align: left; } td.reason { color: #cf222e; white-space: normal; }
@media (prefers-color-scheme: dark) { td.reason { color: #ff7b72; } }
";

/// The whole page.
pub fn render(report: &Report, charts: &[Chart], sections: &[Section], notes: &[String]) -> String {
    let notes: Vec<_> = notes.iter().map(|note| format!("<li>{}</li>\n", escaped(note))).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>A loop against threads</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>A loop against threads</h1>\n\
         <p class=\"soft\">{date}<br>{machine}</p>\n<div class=\"pictures\">\n{pictures}</div>\n{tables}\
         <h2>How to read the figures</h2>\n<ul>\n{notes}</ul>\n</body>\n</html>\n",
        date = escaped(&report.occasion.date),
        machine = escaped(&report.occasion.machine.to_string()),
        pictures = charts.iter().map(figure).collect::<Vec<_>>().concat(),
        tables = sections.iter().map(table).collect::<Vec<_>>().concat(),
        notes = notes.concat(),
    )
}

fn figure(chart: &Chart) -> String {
    let Chart { name, title, sentence, svg } = chart;
    format!(
        "<figure id=\"{name}\"><h3>{title}</h3>\n{svg}\n<figcaption>{sentence}</figcaption></figure>\n",
        sentence = escaped(sentence)
    )
}

fn table(section: &Section) -> String {
    let cell = |tag: &str, column: usize, text: &str| {
        let class = if section.is_text(column) { " class=\"name\"" } else { "" };
        format!("<{tag}{class}>{}</{tag}>", escaped(text))
    };
    let columns = section.head.len();
    let head: Vec<_> =
        section.head.iter().enumerate().map(|(column, head)| cell("th", column, head)).collect();
    let mut rows = Vec::new();
    let mut group = None;
    for row in &section.rows {
        if let Some(heading) = &row.group
            && group != Some(heading)
        {
            let heading = escaped(heading);
            rows.push(format!("<tr><th class=\"group\" colspan=\"{columns}\">{heading}</th></tr>\n"));
        }
        group = row.group.as_ref();
        let mut cells: Vec<_> =
            (0..).map_while(|column| Some(cell("td", column, row.cell(column)?))).collect();
        if let Err(reason) = &row.figures {
            let left = columns - 1;
            cells.push(format!("<td class=\"reason\" colspan=\"{left}\">{}</td>", escaped(reason)));
        }
        rows.push(format!("<tr>{}</tr>\n", cells.concat()));
    }
    format!(
        "<h2>{title}</h2>\n{sentence}<div class=\"wide\"><table>\n\
         <thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n{below}",
        title = escaped(&section.title),
        sentence = paragraph(&section.sentence),
        head = head.concat(),
        rows = rows.concat(),
        below = section.below.as_ref().map(|text| paragraph(text)).unwrap_or_default(),
    )
}

fn paragraph(text: &str) -> String {
    format!("<p class=\"soft\">{}</p>\n", escaped(text))
}

/// Text that is not to be taken for HTML: a server's last words may hold anything.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
