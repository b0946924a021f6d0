//! The report as one page that needs nothing else: no network, no script, no file beside it.

use super::picture::Chart;
use super::sections::Section;
use crate::machine::Machine;

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
th.name, td.name, td.reason { text-align: left; } td.reason { color: #cf222e; white-space: normal; }
@media (prefers-color-scheme: dark) { td.reason { color: #ff7b72; } }
";

/// The whole page.
pub fn render(machine: &Machine, charts: &[Chart], sections: &[Section], notes: &[String]) -> String {
    let mut body = String::new();
    for section in sections {
        body += &table(section);
    }
    let notes =
        notes.iter().fold(String::new(), |list, note| list + &format!("<li>{}</li>\n", escaped(note)));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>A loop against threads</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>A loop against threads</h1>\n\
         <p class=\"soft\">{machine}</p>\n<div class=\"pictures\">\n{pictures}</div>\n{body}\
         <h2>How to read the figures</h2>\n<ul>\n{notes}</ul>\n</body>\n</html>\n",
        machine = escaped(&machine.to_string()),
        pictures = charts.iter().map(figure).collect::<String>(),
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
    let class = |column| if section.is_text(column) { " class=\"name\"" } else { "" };
    let mut text = format!(
        "<h2>{}</h2>\n<p class=\"soft\">{}</p>\n<div class=\"wide\"><table>\n<thead><tr>",
        escaped(&section.title),
        escaped(&section.sentence)
    );
    for (column, head) in section.head.iter().enumerate() {
        text += &format!("<th{}>{}</th>", class(column), escaped(head));
    }
    text += "</tr></thead>\n<tbody>\n";
    for row in &section.rows {
        text += "<tr>";
        for (column, cell) in (0..section.head.len()).map_while(|column| Some((column, row.cell(column)?))) {
            text += &format!("<td{}>{}</td>", class(column), escaped(cell));
        }
        if let Err(reason) = &row.figures {
            let columns = section.head.len() - row.about.len();
            text += &format!("<td class=\"reason\" colspan=\"{columns}\">{}</td>", escaped(reason));
        }
        text += "</tr>\n";
    }
    text + "</tbody>\n</table></div>\n"
}

/// Text that is not to be taken for HTML: a server's last words may hold anything.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
