//! Markdown as HTML: code with colours, and recordings in their places.

use std::fmt::Write as _;

use pulldown_cmark::{CodeBlockKind, Event, Tag, TagEnd, html};

use super::links::Links;
use super::listing::{escape, lines};
use super::{Book, notes};

/// The blocks of a document: headings, paragraphs, tables.
pub fn blocks(text: &str) -> Vec<Vec<Event<'_>>> {
    let (mut blocks, mut depth) = (vec![Vec::new()], 0);
    for event in notes::events(text) {
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            _ => {}
        }
        blocks.last_mut().expect("there is one").push(event);
        if depth == 0 {
            blocks.push(Vec::new());
        }
    }
    blocks.pop();
    blocks
}

/// The text of a heading or another part, and the anchor of a heading: its own, or the one that the code host gives it.
pub fn text_of(block: &[Event<'_>]) -> (String, String) {
    let own = block.iter().find_map(|event| match event {
        Event::InlineHtml(tag) => Some(tag.strip_prefix("<a id=\"")?.split('"').next()?.to_owned()),
        _ => None,
    });
    let words = block.iter().filter_map(|event| match event {
        Event::Text(text) | Event::Code(text) => Some(&**text),
        _ => None,
    });
    let title: String = words.collect();
    let kept = title.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
    let slug = kept.collect::<String>().to_lowercase().replace(' ', "-");
    (title, own.unwrap_or(slug))
}

/// Appends a block as HTML. `placed` is the recordings that the document has so far, if it shows recordings.
pub fn render(
    book: &Book<'_>,
    links: &Links<'_>,
    block: Vec<Event<'_>>,
    out: &mut String,
    placed: Option<&mut Vec<String>>,
) {
    let (_, slug) = text_of(&block);
    let mut events = Vec::new();
    let mut scenes = Vec::new();
    let (mut is_plain, mut addresses, mut seen) = (false, Vec::new(), String::new());
    let mut source = block.into_iter();
    let tag = |html: String| Event::InlineHtml(html.into());
    while let Some(event) = source.next() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                is_plain = true;
                events.push(tag(format!("<{level} id=\"{slug}\">")));
            }
            Event::End(TagEnd::Heading(level)) => events.push(tag(format!("</{level}>\n"))),
            Event::Start(Tag::CodeBlock(kind)) => {
                let fence = if let CodeBlockKind::Fenced(fence) = &kind { fence } else { "" };
                let parts = source.by_ref().take_while(|event| !matches!(event, Event::End(_)));
                let (text, _) = text_of(&parts.collect::<Vec<_>>());
                events.push(tag(fenced(fence, &text)));
            }
            Event::Start(Tag::Link { dest_url, .. }) => {
                scenes.extend(links.scene(&dest_url));
                let address = links.resolve(&dest_url);
                events.extend(address.iter().map(|address| tag(format!("<a href=\"{}\">", escape(address)))));
                addresses.push(address);
            }
            Event::End(TagEnd::Link) => {
                let address = addresses.pop().flatten();
                events.extend(address.map(|_| tag("</a>".to_owned())));
            }
            Event::Start(Tag::Image { dest_url, .. }) => {
                let alt = source.by_ref().take_while(|event| !matches!(event, Event::End(TagEnd::Image)));
                let (alt, _) = text_of(&alt.collect::<Vec<_>>());
                if let Some(scene) = links.scene(&dest_url).filter(|_| placed.is_some()) {
                    scenes.push(scene);
                } else if let Some(address) = links.picture(&dest_url) {
                    let alt = escape(&alt);
                    events.push(tag(format!("<img src=\"{address}\" alt=\"{alt}\" loading=\"lazy\">")));
                }
            }
            Event::Code(span) => {
                let code = format!("<code>{}</code>", escape(&span));
                let address = if is_plain || !addresses.is_empty() { None } else { links.of_code(&span) };
                events.push(tag(match address {
                    Some(address) => format!("<a class=\"code\" href=\"{}\">{code}</a>", escape(&address)),
                    None => code,
                }));
            }
            Event::Html(text) => events.push(Event::Html(in_html(links, &text).into())),
            // The heading has the anchor.
            Event::InlineHtml(_) if is_plain => {}
            Event::InlineHtml(text) => {
                seen.push_str(&seen_in(book, links, &text));
                events.push(tag(in_html(links, &text)));
            }
            Event::End(TagEnd::TableCell) => {
                events.push(tag(std::mem::take(&mut seen)));
                events.push(Event::End(TagEnd::TableCell));
            }
            Event::Start(Tag::Table(columns)) => {
                events.push(tag("<div class=\"wide\">".to_owned()));
                events.push(Event::Start(Tag::Table(columns)));
            }
            Event::End(TagEnd::Table) => {
                events.push(Event::End(TagEnd::Table));
                events.push(tag("</div>\n".to_owned()));
            }
            other => events.push(other),
        }
    }
    let mut text = String::new();
    html::push_html(&mut text, events.into_iter());
    out.push_str(text.strip_prefix("<p></p>\n").unwrap_or(&text));
    let new = placed.map(|placed| place(placed, scenes)).unwrap_or_default();
    for scene in new {
        let caption = book.edition.texts.scene.replace("{scene}", &format!("<code>{scene}</code>"));
        let look_for = escape(book.recordings[&*scene].look_for());
        let _ = writeln!(
            out,
            "<figure class=\"stepper\" id=\"scene-{scene}\" data-scene=\"{scene}\" tabindex=\"-1\">\
             <figcaption><b>{caption}</b>{look_for}</figcaption></figure>"
        );
    }
}

/// The scenes that the document does not show yet. It shows them now.
fn place(placed: &mut Vec<String>, scenes: Vec<String>) -> Vec<String> {
    let new: Vec<_> = scenes.into_iter().filter(|scene| !placed.contains(scene)).collect();
    placed.extend(new.iter().cloned());
    new
}

/// A block of code. The fence of a difference names two programs: its lines are Rust.
fn fenced(fence: &str, text: &str) -> String {
    let code = match fence.split(' ').next() {
        Some("diff") if fence.contains(".rs") => {
            let (marks, code): (Vec<_>, Vec<_>) =
                text.lines().map(|line| line.split_at(line.len().min(1))).unzip();
            let class = |mark| match mark {
                "+" => "plus",
                "-" => "minus",
                _ => "same",
            };
            marks.iter().zip(lines("rs", &code.join("\n"))).fold(String::new(), |mut html, (mark, line)| {
                let _ = writeln!(html, "<span class=\"{}\">{mark}{line}", class(mark));
                html + "</span>"
            })
        }
        Some("rust") => lines("rust", text).join("\n"),
        _ => escape(text),
    };
    format!("<pre><code>{code}</code></pre>\n")
}

/// HTML of the document, with links that lead to pages of the book.
fn in_html(links: &Links<'_>, text: &str) -> String {
    let mut parts = text.split("href=\"");
    let mut html = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (target, rest) = part.split_once('"').unwrap_or((part, ""));
        let address = links.resolve(target).unwrap_or_default();
        let _ = write!(html, "href=\"{}\"{rest}", escape(&address));
    }
    html
}

/// Links from the anchor of a rule to the first steps that show it.
fn seen_in(book: &Book<'_>, links: &Links<'_>, anchor: &str) -> String {
    let rule = anchor.split_once("id=\"rule-").and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
    let Some(rule) = rule else { return String::new() };
    let seen = book.recordings.iter().filter_map(|(scene, recording)| Some((scene, recording.shows(rule)?)));
    let link = |(scene, step): (&&str, usize)| {
        let label = book.edition.texts.seen_in.replace("{rule}", &rule.to_string()).replace("{scene}", scene);
        let address = links.of_scene(scene).unwrap_or_default();
        format!(
            "<a class=\"seen\" href=\"{address}\" data-step=\"{step}\" title=\"{label}\" aria-label=\"{label}\">▶</a>"
        )
    };
    seen.take(2).map(link).collect()
}
