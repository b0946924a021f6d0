//! The documents name only what exists: files, headings, commands, tests and items of the code. And the diffs that they
//! show are parts of the real ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use similar::TextDiff;

const DOCUMENTS: [&str; 6] = [
    "README.md",
    "README.zh-CN.md",
    "NOTES.md",
    "NOTES.zh-CN.md",
    "examples/lab/README.md",
    "examples/deploy/README.md",
];

/// Names of others that look like ours.
const ELSEWHERE: [&str; 5] =
    ["epoll_create1", "eventpoll_epi", "lsm_file_cache", "sock_inode_cache", "thread::spawn"];

#[test]
fn the_documents_name_only_what_exists() {
    let code = Code::read();
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        wrong
            .extend(complaints(&code, document, &text).into_iter().map(|what| format!("{document}: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_mistake_in_a_document_is_found() {
    let code = Code::read();
    for mistake in [
        "[the loop](src/sever.rs)",
        "![a picture](missing.svg)",
        "[there](#the-lop)",
        "<a id=\"rule-1\"></a>[there](#rule-2)",
        "<a href=\"tests/exercises/missing.patch\">patch</a>",
        "`src/sever.rs`",
        "`Server::acept`",
        "`clients::a_reset_kills_them_all`",
        "`a_reset_kills_them_all`",
        "`cargo run --example echo_twice`",
        "```sh\ncargo run --release -p lab -- compair\n```",
        "`cargo test --test it a_flood_gets_all`",
        "`--prto`",
        "```diff examples/poll_all.rs examples/tiny_event_loop.rs\n+fn main() {}\n```",
        "```diff examples/poll_all.rs examples/tiny_event_loop.rs\n+    poll: Poll,\n \n+use slab::Slab;\n```",
    ] {
        assert_eq!(complaints(&code, "NOTES.md", mistake).len(), 1, "{mistake}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All that a document can refer to.
struct Code {
    /// The words of all sources, and the names of the files without their endings.
    words: BTreeSet<String>,
    /// The tests, each with its file: `clients::a_reset`.
    tests: BTreeSet<String>,
}

impl Code {
    fn read() -> Self {
        let (mut words, mut tests, mut files) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for directory in ["src", "examples", "tests"] {
            collect(&root().join(directory), &mut files);
        }
        for file in files {
            let module = file.file_stem().expect("it is a file").to_string_lossy().into_owned();
            for line in fs::read_to_string(&file).unwrap_or_default().lines() {
                words.extend(line.split(|c: char| !is_of_word(c)).map(str::to_owned));
                let name = line.trim_start().strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                tests.extend(name.map(|name| format!("{module}::{name}")));
            }
            words.insert(module);
        }
        Self { words, tests }
    }

    /// What is wrong with a name in backticks: a path, an option, a test or an item.
    fn check(&self, directory: &Path, span: &str) -> Option<String> {
        let span = span.trim_end_matches("()");
        let is_path = ["src/", "tests/", "examples/", ".ci/"].iter().any(|start| span.starts_with(start));
        let is_known = if is_path && !span.contains(['{', ' ']) {
            root().join(span).exists() || directory.join(span).exists()
        } else if let Some(option) = span.strip_prefix("--") {
            // Options have their names from the fields of a struct.
            let name = option.split(['=', ' ']).next().unwrap_or_default();
            self.words.contains(&name.replace('-', "_"))
        } else if ELSEWHERE.contains(&span) || !span.chars().all(|c| is_of_word(c) || c == ':') {
            true
        } else if span.contains("::") && span.matches('_').count() > 3 {
            // The name of a test is a sentence. A unit test is in the module `tests` of its file.
            self.tests.contains(&span.replace("::tests::", "::"))
        } else {
            let is_plain = !span.contains("::") && (!span.contains('_') || span.to_uppercase() == span);
            is_plain || span.split("::").all(|part| self.words.contains(part))
        };
        (!is_known).then(|| format!("there is no `{span}`"))
    }

    /// What is wrong with a command line.
    fn check_command(&self, line: &str) -> Option<String> {
        let words: Vec<&str> = line.split_whitespace().skip_while(|&word| word != "cargo").collect();
        let after = |option: &str| words.iter().skip_while(|&&word| word != option).nth(1);
        let example = after("--example").map(|name| format!("examples/{name}.rs"));
        let part =
            after("run").and(after("-p")).and(after("--")).map(|part| format!("examples/lab/src/{part}"));
        let test = words.iter().skip_while(|&&word| word != "--test").nth(2);
        let mut missing = [example, part].into_iter().flatten().filter(|path| !root().join(path).exists());
        let unknown = |part: &str| part != "--" && !self.tests.iter().any(|test| test.contains(part));
        let is_wrong = missing.next().is_some() || test.is_some_and(|part| unknown(part));
        is_wrong.then(|| format!("`{line}` does not run"))
    }
}

fn complaints(code: &Code, document: &str, text: &str) -> Vec<String> {
    let (mut found, mut block) = (Vec::new(), None);
    let directory = root().join(document).parent().expect("it is a file").to_owned();
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Code(span) => {
                found.extend(code.check(&directory, &span).or_else(|| code.check_command(&span)));
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                found.extend(check_link(&directory, text, &dest_url));
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                let links = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(links.filter_map(|target| check_link(&directory, text, target)));
            }
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => block = Some(language),
            Event::End(TagEnd::CodeBlock) => block = None,
            Event::Text(lines) => {
                match block.as_deref().unwrap_or_default().split(' ').collect::<Vec<_>>()[..] {
                    ["diff", before, after] => found.extend(check_diff(before, after, &lines)),
                    ["sh"] => found.extend(lines.lines().filter_map(|line| code.check_command(line))),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    found
}

fn check_link(directory: &Path, text: &str, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    if target.contains("://") {
        return None;
    }
    let file = directory.join(path);
    let other = if path.is_empty() { text.to_owned() } else { fs::read_to_string(&file).unwrap_or_default() };
    let is_there =
        (path.is_empty() || file.exists()) && (anchor.is_empty() || anchors(&other).contains(anchor));
    (!is_there).then(|| format!("there is no {target}"))
}

/// The anchors of the headings, as the sites that show Markdown make them, and those that the text sets: `<a id="…">`.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let of_headings = headings.map(slug);
    let set = text.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned);
    of_headings.chain(set).collect()
}

/// The anchor of a heading.
pub(crate) fn slug(heading: &str) -> String {
    let kept: String = heading.chars().filter(|&c| is_of_word(c) || " -".contains(c)).collect();
    kept.to_lowercase().replace(' ', "-")
}

/// The lines shown must be next to each other in the real diff, where no `…` stands between them.
fn check_diff(before: &str, after: &str, shown: &str) -> Option<String> {
    let text = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_default();
    let (old, new) = (text(before), text(after));
    let real = TextDiff::from_lines(&old, &new).unified_diff().context_radius(old.len()).to_string();
    let missing = shown.split("…\n").find(|part| !real.contains(part));
    missing.map(|part| format!("the diff of {before} and {after} has not\n{part}"))
}

fn is_of_word(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

/// All sources but this one, which has the mistakes above in it.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(file!()) {
            files.push(path);
        }
    }
}
