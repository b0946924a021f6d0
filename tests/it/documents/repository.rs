//! What there is for a document to refer to.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use super::reference::Reference;
use crate::harness::Process;

/// What belongs to others and may be named though nothing here uses it.
const ELSEWHERE: [&str; 5] =
    ["LimitNOFILE", "TcpExtTCPSynRetrans", "epoll_create1", "lsm_file_cache", "tokio"];

/// Options of cargo that the documents speak of on their own.
const OF_CARGO: [&str; 4] = ["--example", "--ignored", "--locked", "--release"];

/// The files by their paths, and what `okloop --help` says.
pub struct Repository {
    files: BTreeMap<String, String>,
    help: String,
}

impl Repository {
    pub fn new(files: BTreeMap<String, String>, help: String) -> Self {
        Self { files, help }
    }

    /// The one that this test belongs to.
    pub fn this() -> Self {
        let mut files = BTreeMap::new();
        collect(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut files);
        let help = Process::start("okloop", &["--help"]).finish().stdout;
        Self::new(files, String::from_utf8(help).expect("help is text"))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// What is wrong with a reference in `document`, if anything.
    pub fn complaint(&self, document: &str, reference: &Reference) -> Option<String> {
        match reference {
            Reference::Path(path) => self.under(path).next().is_none().then(|| format!("no file `{path}`")),
            Reference::Anchor(target) => {
                let (path, anchor) = target.split_once('#')?;
                let document = if path.is_empty() { document } else { self.text(path)? };
                (!anchors(document).contains(&anchor.to_owned()))
                    .then(|| format!("no heading for `{target}`"))
            }
            Reference::Example(name) => self.example(name).is_empty().then(|| format!("no example `{name}`")),
            Reference::Option { name, program } => self.missing_option(name, program.as_deref()),
            Reference::Item { name, file: Some(file) } => {
                let texts: Vec<(&str, &str)> = self.under(file).collect();
                // A missing file is a complaint of its own.
                let (path, _) = texts.first()?;
                let is_there =
                    name.split("::").all(|part| texts.iter().any(|(_, text)| has_word(text, part)));
                (!is_there).then(|| format!("`{name}` is not in {path}"))
            }
            Reference::Item { name, file: None } => self.missing_item(name),
        }
    }

    /// A file by its path or its bare name, or all files of a directory.
    fn under(&self, path: &str) -> impl Iterator<Item = (&str, &str)> {
        let path = path.trim_end_matches('/').to_owned();
        let is_under = move |file: &str| {
            file == path
                || file.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/'))
                || file.strip_suffix(&path).is_some_and(|rest| rest.ends_with('/') && !path.contains('/'))
        };
        self.files.iter().map(|(file, text)| (&file[..], &text[..])).filter(move |(file, _)| is_under(file))
    }

    /// The sources of an example, or of a package below `examples`.
    fn example(&self, name: &str) -> Vec<&str> {
        let paths = [format!("examples/{name}.rs"), format!("examples/{name}")];
        paths.iter().flat_map(|path| self.under(path)).map(|(_, text)| text).collect()
    }

    fn missing_option(&self, name: &str, program: Option<&str>) -> Option<String> {
        let words = || self.help.split(|c: char| c.is_whitespace() || ",[]".contains(c));
        let of_server = || words().any(|word| word == name);
        // An example writes its options out, or has them made from the names of a struct's fields.
        let field = name.trim_start_matches('-').replace('-', "_");
        let is_in = |text: &str| text.contains(&format!("\"{name}\"")) || has_word(text, &field);
        let is_there = match program {
            Some("okloop") => of_server(),
            Some(example) => self.example(example).into_iter().any(is_in),
            None => {
                let mut examples = self.under("examples");
                OF_CARGO.contains(&name) || of_server() || examples.any(|(_, text)| is_in(text))
            }
        };
        let program = program.map_or(String::new(), |program| format!(" of {program}"));
        (!is_there).then(|| format!("no option `{name}`{program}"))
    }

    /// An item that the document gives no file for.
    fn missing_item(&self, name: &str) -> Option<String> {
        let nothing = |name: &str| format!("nothing is called `{name}`");
        let Some((whole, part)) = name.split_once("::") else {
            return (!self.is_known(name)).then(|| nothing(name));
        };
        let part = part.rsplit("::").next().unwrap_or(part);
        let homes = self.homes(whole);
        if let Some((path, _)) = homes.first() {
            let is_there = homes.iter().any(|(_, text)| defines(text, part));
            return (!is_there).then(|| format!("`{name}` is not in {path}"));
        }
        (!self.is_mentioned(whole)).then(|| nothing(whole))
    }

    /// Whether a name that stands alone is one of ours, or may be anybody's: a plain word, or a constant of the system.
    fn is_known(&self, name: &str) -> bool {
        let is_constant = !name.contains(|c: char| c.is_ascii_lowercase());
        let is_word = !name.contains(|c: char| c == '_' || c.is_ascii_uppercase());
        let is_sentence = name.matches('_').count() >= 3;
        if is_constant || is_word {
            true
        } else if is_sentence {
            self.sources().any(|(path, text)| stem(path) == name || defines(text, name))
        } else {
            self.is_mentioned(name)
        }
    }

    fn is_mentioned(&self, name: &str) -> bool {
        ELSEWHERE.contains(&name)
            || self.sources().any(|(path, text)| stem(path) == name || has_word(text, name))
    }

    /// The files that are a module of this name, or that make a type of this name what it is. None for a library's type,
    /// though traits may be implemented for it, and though a test may have one of the same name.
    fn homes(&self, whole: &str) -> Vec<(&str, &str)> {
        let has_any = |text: &str, keywords: &[&str]| keywords.iter().any(|word| has_pair(text, word, whole));
        let declares = |text: &str| has_any(text, &["struct", "enum", "trait", "type"]);
        let is_ours = self.sources().any(|(path, text)| !path.starts_with("tests/") && declares(text));
        let is_home = |path: &str, text: &str| {
            stem(path) == whole
                || has_any(text, &["mod"])
                || is_ours && (declares(text) || has_any(text, &["impl", "for"]))
        };
        self.sources().filter(|(path, text)| is_home(path, text)).collect()
    }

    fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_source = |path: &str| Path::new(path).extension().is_some_and(|extension| extension == "rs");
        self.files.iter().map(|(path, text)| (&path[..], &text[..])).filter(move |(path, _)| is_source(path))
    }
}

/// Reads all files below a directory, but not what is built or is git's.
fn collect(directory: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("the repository can be read") {
        let path = entry.expect("the repository can be read").path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            if ![".git", "target"].contains(&&name[..]) {
                collect(&path, &format!("{name}/"), files);
            }
        } else if let Ok(bytes) = fs::read(&path) {
            files.insert(name, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

/// The anchors of a document's headings, as the sites that show Markdown make them.
fn anchors(document: &str) -> Vec<String> {
    let (mut anchors, mut text_so_far) = (Vec::new(), String::new());
    for event in Parser::new(document) {
        match event {
            Event::Start(Tag::Heading { .. }) => text_so_far.clear(),
            Event::End(TagEnd::Heading(_)) => {
                let kept = text_so_far.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
                anchors.push(kept.collect::<String>().to_lowercase().replace(' ', "-"));
            }
            Event::Text(text) | Event::Code(text) => text_so_far.push_str(&text),
            _ => {}
        }
    }
    anchors
}

/// A path's last part without the extension.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name)
}

/// Whether a source defines something of that name: an item, a field or a variant.
fn defines(text: &str, name: &str) -> bool {
    let keywords = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
    let begins = |line: &str| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ',', '(', ' ']))
    };
    keywords.iter().any(|keyword| has_pair(text, keyword, name)) || text.lines().any(begins)
}

/// Whether `keyword name` stands somewhere in the text.
fn has_pair(text: &str, keyword: &str, name: &str) -> bool {
    has_word(text, &format!("{keyword} {name}"))
}

/// Whether the text has the word, and not only as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}
