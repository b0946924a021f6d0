//! Programs as lines of HTML, with colours and numbers.

use ra_ap_rustc_lexer::{FrontmatterAllowed, LiteralKind, TokenKind, tokenize};
use similar::{ChangeTag, TextDiff};

use super::project::ending;

/// One line of a program.
pub struct Line {
    /// Its number, from 1. A removed line has none.
    pub number: Option<usize>,
    pub is_new: bool,
    /// The line in HTML.
    pub html: String,
}

/// The words of Rust.
const KEYWORDS: [&str; 37] = [
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false",
    "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return",
    "self", "Self", "static", "struct", "super", "trait", "true", "type", "use", "where", "while",
];

/// The lines of a text in HTML. `language` is the ending of a file's name, or the name of a fence.
pub fn lines(language: &str, text: &str) -> Vec<String> {
    match language {
        "rs" | "rust" => rust(text),
        "patch" => {
            let class = |line: &str| match line.as_bytes().first() {
                Some(b'+') => "plus",
                Some(b'-') => "minus",
                _ => "",
            };
            text.lines().map(|line| span(class(line), line)).collect()
        }
        _ => text.lines().map(escape).collect(),
    }
}

fn rust(text: &str) -> Vec<String> {
    let (mut html, mut at) = (String::new(), 0);
    for token in tokenize(text, FrontmatterAllowed::No) {
        let (piece, rest) = text[at..].split_at(token.len as usize);
        at += piece.len();
        let class = match token.kind {
            TokenKind::LineComment { .. } | TokenKind::BlockComment { .. } => "c",
            TokenKind::Literal { kind: LiteralKind::Int { .. } | LiteralKind::Float { .. }, .. } => "v",
            TokenKind::Literal { .. } => "s",
            TokenKind::Ident if KEYWORDS.contains(&piece) => "k",
            TokenKind::Ident if piece.len() > 1 && piece.to_uppercase() == piece => "v",
            TokenKind::Ident if rest.starts_with('(') || rest.starts_with("!(") => "f",
            _ => "",
        };
        // A text over several lines is one span in each of them.
        let parts: Vec<_> = piece.split('\n').map(|part| span(class, part)).collect();
        html.push_str(&parts.join("\n"));
    }
    html.lines().map(str::to_owned).collect()
}

/// A program. What is new against the text before is marked, and what was there instead stands between.
pub fn listing(path: &str, text: &str, before: Option<&str>) -> Vec<Line> {
    let language = ending(path);
    let new = lines(language, text).into_iter().zip(1..);
    let Some(before) = before else {
        return new.map(|(html, number)| Line { number: Some(number), is_new: false, html }).collect();
    };
    let (mut new, mut old) = (new, lines(language, before).into_iter());
    let difference = TextDiff::from_lines(before, text);
    let lines = difference.iter_all_changes().map(|change| {
        let tag = change.tag();
        let removed = if tag == ChangeTag::Insert { None } else { old.next() };
        let added = if tag == ChangeTag::Delete { None } else { new.next() };
        let (html, number) =
            added.map(|(html, number)| (html, Some(number))).or(removed.map(|html| (html, None)))?;
        Some(Line { number, is_new: tag == ChangeTag::Insert, html })
    });
    lines.flatten().collect()
}

fn span(class: &str, text: &str) -> String {
    let text = escape(text);
    if class.is_empty() || text.trim().is_empty() {
        text
    } else {
        format!("<span class={class}>{text}</span>")
    }
}

/// Text as HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
