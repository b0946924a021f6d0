//! What a document refers to. Knows how the documents write it, and not what there is.

use pulldown_cmark::{Event, Options, Parser, Tag};

/// Something that a document says is there.
#[derive(Debug, PartialEq, Eq)]
pub enum Reference {
    /// A file or a directory.
    Path(String),
    /// A heading, of another document if there is a path before the `#`.
    Anchor(String),
    /// An item, in this file or anywhere.
    Item { name: String, file: Option<String> },
    /// An example, or another package, that can be run.
    Example(String),
    /// An option of `okloop` or an example, or of any of them.
    Option { name: String, program: Option<String> },
}

/// Everything that a document refers to, each with its line.
pub fn references(document: &str) -> Vec<(usize, Reference)> {
    let mut found = Vec::new();
    let mut passage = Passage::default();
    for (event, range) in Parser::new_ext(document, Options::ENABLE_TABLES).into_offset_iter() {
        let line = document[..range.start].matches('\n').count() + 1;
        match event {
            Event::Code(code) => passage.0.push(Inline::Code(line, code.into_string())),
            Event::Text(text) => passage.push_text(&text),
            Event::SoftBreak | Event::HardBreak => passage.push_text(" "),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                found.extend(of_link(&dest_url).into_iter().map(|reference| (line, reference)));
            }
            Event::Start(Tag::CodeBlock(_)) => {
                let block = document[range].lines().enumerate();
                found.extend(std::mem::take(&mut passage).references());
                found.extend(block.flat_map(|(below, text)| on_line(line + below, of_words(text))));
            }
            Event::Start(Tag::Emphasis | Tag::Strong) => {}
            Event::Start(_) => found.extend(std::mem::take(&mut passage).references()),
            _ => {}
        }
    }
    found.extend(passage.references());
    found
}

/// The text of one paragraph or table cell, in which a code span's neighbours say which file it is about.
#[derive(Default)]
struct Passage(Vec<Inline>);

enum Inline {
    Text(String),
    Code(usize, String),
}

impl Passage {
    fn push_text(&mut self, more: &str) {
        match self.0.last_mut() {
            Some(Inline::Text(text)) => text.push_str(more),
            _ => self.0.push(Inline::Text(more.to_owned())),
        }
    }

    fn references(self) -> Vec<(usize, Reference)> {
        let mut found = Vec::new();
        for (at, inline) in self.0.iter().enumerate() {
            let Inline::Code(line, code) = inline else { continue };
            let file =
                file_after(&self.0[at + 1..]).or_else(|| file_before(&self.0[..at])).map(str::to_owned);
            match item(code) {
                Some(name) => found.push((*line, Reference::Item { name, file })),
                None => found.extend(on_line(*line, of_words(code))),
            }
        }
        found
    }
}

/// The file of `item, item in file`.
fn file_after(inlines: &[Inline]) -> Option<&str> {
    let mut said_in = false;
    for inline in inlines {
        match inline {
            Inline::Text(text) if text.trim() == "in" => said_in = true,
            Inline::Text(text) if joins(text) => {}
            Inline::Code(_, code) if said_in => return is_path(code).then_some(code),
            Inline::Code(_, code) if item(code).is_some() => {}
            _ => return None,
        }
    }
    None
}

/// The file of `file: item, item`, unless it is the file of `… in file`.
fn file_before(inlines: &[Inline]) -> Option<&str> {
    for (at, inline) in inlines.iter().enumerate().rev() {
        match inline {
            Inline::Text(text) if joins(text) => {}
            Inline::Code(_, code) if is_path(code) => {
                let said_in = at > 0 && matches!(&inlines[at - 1], Inline::Text(text) if text.trim() == "in");
                return (!said_in).then_some(code);
            }
            Inline::Code(_, code) if item(code).is_some() => {}
            _ => return None,
        }
    }
    None
}

/// Whether what stands before the text and what stands behind it are about the same.
fn joins(text: &str) -> bool {
    text.split_whitespace().all(|word| word == "and" || word.chars().all(|c| ",:()".contains(c)))
}

fn of_link(target: &str) -> Vec<Reference> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Vec::new();
    }
    let path = target.split('#').next().filter(|path| !path.is_empty());
    let path = path.map(|path| Reference::Path(path.to_owned()));
    path.into_iter().chain(target.contains('#').then(|| Reference::Anchor(target.to_owned()))).collect()
}

/// What a line of a code block or a code span that is no item refers to: the paths in it, and what its commands say.
fn of_words(text: &str) -> Vec<Reference> {
    let brackets: &[char] = &['[', ']', '(', ')', '\'', '"', ',', ';'];
    let words: Vec<&str> = text.split_whitespace().map(|word| word.trim_matches(brackets)).collect();
    let paths = words.iter().filter(|word| is_path(word)).map(|path| Reference::Path((*path).to_owned()));
    let commands = words.split(|word| ["|", "||", "&", "&&", ""].contains(word));
    let mut found: Vec<Reference> = paths.chain(commands.flat_map(of_command)).collect();
    if let Some(option) = words.first().and_then(|word| option(word)) {
        found.push(Reference::Option { name: option, program: None });
    }
    found
}

/// What a command refers to beside its paths, behind a prompt and the settings of its environment.
fn of_command(words: &[&str]) -> Vec<Reference> {
    let is_program = |word: &&str| *word != "$" && !word.contains('=');
    let Some(start) = words.iter().position(is_program) else { return Vec::new() };
    let (program, arguments) = (words[start], &words[start + 1..]);
    let name = program.rsplit('/').next().unwrap_or(program);
    match name {
        "cargo" => of_cargo(arguments),
        "okloop" | "lab" => of_program(name, arguments),
        _ if program.contains("target/") && program.contains("/examples/") => of_program(name, arguments),
        _ => Vec::new(),
    }
}

fn of_cargo(arguments: &[&str]) -> Vec<Reference> {
    let end = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    let (own, passed) = arguments.split_at(end);
    let example = own.iter().skip_while(|word| !["--example", "-p"].contains(word)).nth(1);
    match (own.first(), example) {
        (_, Some(example)) => of_program(example, passed),
        // A package of the workspace has options of its own.
        (Some(&"run"), None) if own.contains(&"-p") => {
            let options = passed.iter().filter_map(|word| option(word));
            options.map(|name| Reference::Option { name, program: None }).collect()
        }
        (Some(&"run"), None) => of_program("okloop", passed),
        (Some(&"test"), None) => {
            let tests = arguments.iter().filter_map(|word| item(word)).filter(|name| name.contains("::"));
            tests.map(|name| Reference::Item { name, file: None }).collect()
        }
        _ => Vec::new(),
    }
}

fn of_program(program: &str, arguments: &[&str]) -> Vec<Reference> {
    let example = (program != "okloop").then(|| Reference::Example(program.to_owned()));
    let options = arguments.iter().filter_map(|word| option(word));
    let options = options.map(|name| Reference::Option { name, program: Some(program.to_owned()) });
    example.into_iter().chain(options).collect()
}

fn on_line(line: usize, references: Vec<Reference>) -> impl Iterator<Item = (usize, Reference)> {
    references.into_iter().map(move |reference| (line, reference))
}

/// `-p` or `--port`, without a value behind an equals sign.
fn option(word: &str) -> Option<String> {
    let name = word.split('=').next()?;
    let letters =
        name.strip_prefix("--").or_else(|| name.strip_prefix('-').filter(|rest| rest.len() == 1))?;
    let is_name = letters.starts_with(|c: char| c.is_ascii_alphabetic())
        && letters.chars().all(|c| c == '-' || c.is_ascii_alphabetic());
    is_name.then(|| name.to_owned())
}

/// `Type::method`, `method()`, `CONSTANT` and the like.
fn item(code: &str) -> Option<String> {
    let code = code.strip_suffix("()").unwrap_or(code);
    let code = code.strip_prefix("okloop::").unwrap_or(code);
    let is_name = |name: &str| {
        name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
            && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    };
    code.split("::").all(is_name).then(|| code.to_owned())
}

/// Whether a word is a path that could be of this repository: not one of the system, nor of what is built.
fn is_path(word: &str) -> bool {
    const EXTENSIONS: [&str; 6] = ["rs", "md", "toml", "lock", "svg", "sh"];
    const DIRECTORIES: [&str; 5] = [".ci", "examples", "src", "tests", ".."];
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let (first, last) = (word.split('/').next(), word.rsplit('/').next().unwrap_or_default());
    let known = match last.rsplit_once('.') {
        Some((stem, extension)) => !stem.is_empty() && EXTENSIONS.contains(&extension),
        None => word.contains('/') && first.is_some_and(|first| DIRECTORIES.contains(&first)),
    };
    plain && known && !word.starts_with('/') && first != Some("target")
}
