//! Programs as lines of HTML, with colours and numbers.

use similar::{ChangeTag, TextDiff};
use syntect::parsing::{ParseState, Scope, ScopeStack, SyntaxSet};

use super::project::ending;

/// One line of a program.
pub struct Line {
    /// Its number, from 1. A removed line has none.
    pub number: Option<usize>,
    pub is_new: bool,
    /// The line in HTML.
    pub html: String,
}

pub struct Highlighter {
    syntaxes: SyntaxSet,
    /// Scopes of the syntaxes, and the classes of the style. The first that fits counts.
    classes: Vec<(Scope, &'static str)>,
}

impl Highlighter {
    pub fn new() -> Self {
        let classes = [
            ("comment", "c"),
            ("string", "s"),
            ("constant", "v"),
            ("meta.annotation", "a"),
            ("entity.name", "f"),
            ("support.function", "f"),
            ("support.macro", "f"),
            ("storage.type", "k"),
            ("storage.modifier", "k"),
            ("keyword.operator", ""),
            ("keyword", "k"),
            ("support.type", "t"),
            ("markup.inserted", "plus"),
            ("markup.deleted", "minus"),
        ];
        let classes = classes.map(|(scope, class)| (Scope::new(scope).expect("a scope's name"), class));
        Self { syntaxes: SyntaxSet::load_defaults_newlines(), classes: classes.to_vec() }
    }

    /// The lines of a text in HTML. `language` is the ending of a file's name, or the name of a fence.
    pub fn lines(&self, language: &str, text: &str) -> Vec<String> {
        let language = if language == "patch" { "diff" } else { language };
        let syntax = self.syntaxes.find_syntax_by_token(language);
        let syntax = syntax.unwrap_or_else(|| self.syntaxes.find_syntax_plain_text());
        let (mut state, mut stack) = (ParseState::new(syntax), ScopeStack::new());
        let line_of = |line: &str| {
            let changes = state.parse_line(line, &self.syntaxes).unwrap_or_default();
            let (mut pieces, mut at) = (Vec::<(&str, String)>::new(), 0);
            let ends = changes.iter().map(|(end, _)| *end).chain([line.len()]);
            for (index, end) in ends.enumerate() {
                let piece = line[at..end].trim_end_matches('\n');
                let class = self.class(&stack);
                match pieces.last_mut() {
                    Some((last, text)) if *last == class || piece.trim().is_empty() => text.push_str(piece),
                    _ => pieces.push((class, piece.to_owned())),
                }
                at = end;
                if let Some((_, change)) = changes.get(index) {
                    // A syntax that closes what it has not opened leaves the colours as they are.
                    let _ = stack.apply(change);
                }
            }
            pieces.into_iter().map(|(class, text)| span(class, &text)).collect()
        };
        // A syntax is made for lines with their endings.
        text.split_inclusive('\n').map(line_of).collect()
    }

    fn class(&self, stack: &ScopeStack) -> &'static str {
        let class_of = |scope: &Scope| self.classes.iter().find(|(prefix, _)| prefix.is_prefix_of(*scope));
        stack.scopes.iter().rev().find_map(class_of).map_or("", |(_, class)| class)
    }

    /// A program. What is new against the text before is marked, and what was there instead stands between.
    pub fn listing(&self, path: &str, text: &str, before: Option<&str>) -> Vec<Line> {
        let language = ending(path);
        let new = self.lines(language, text).into_iter().zip(1..);
        let Some(before) = before else {
            return new.map(|(html, number)| Line { number: Some(number), is_new: false, html }).collect();
        };
        let (mut new, mut old) = (new, self.lines(language, before).into_iter());
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
