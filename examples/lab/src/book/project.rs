//! The files of the project, and where each item of the code is.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Failure;

pub struct Project {
    root: PathBuf,
    /// The items of the library, the examples and the tests, by name.
    items: HashMap<String, Vec<Item>>,
}

/// An item of the code.
struct Item {
    file: String,
    line: usize,
    /// The type whose method it is, or the module that it is in.
    owner: String,
}

impl Project {
    pub fn read() -> Result<Self, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().map_err(Failure::system("The project"))?;
        let mut project = Self { root, items: HashMap::new() };
        let mut files = Vec::new();
        for directory in ["src", "examples", "tests/it"] {
            collect(&project.root.join(directory), &mut files)?;
        }
        for file in files.iter().filter(|file| !file.components().any(|part| part.as_os_str() == "lab")) {
            project.index(file)?;
        }
        Ok(project)
    }

    /// The text of a file of the project.
    pub fn text(&self, path: &str) -> Result<String, Failure> {
        fs::read_to_string(self.root.join(path)).map_err(Failure::system(path.to_owned()))
    }

    pub fn has_file(&self, path: &str) -> bool {
        // What is built is no part of the project.
        !path.starts_with("target/") && self.root.join(path).is_file()
    }

    /// The file and the line of the item that a span of code names, if it is one item.
    pub fn find(&self, span: &str) -> Option<(&str, usize)> {
        let span = span.trim_end_matches("()");
        let (owner, name) = span.rsplit_once("::").map_or(("", span), |(owner, name)| (owner, name));
        let owner = owner.trim_end_matches("::tests").rsplit("::").next().unwrap_or_default();
        // A plain word in small letters is more often a word of the text.
        if owner.is_empty() && !name.starts_with(char::is_uppercase) && !name.contains('_') {
            return None;
        }
        let items = || self.items.get(name).into_iter().flatten();
        let own =
            items().filter(|item| item.file.starts_with("src/") && (owner.is_empty() || item.owner == owner));
        let others = items().filter(|item| !item.file.starts_with("src/") && item.owner == owner);
        let item = only(own).or_else(|| only(others))?;
        Some((&item.file, item.line))
    }

    fn index(&mut self, file: &Path) -> Result<(), Failure> {
        let path = file.strip_prefix(&self.root).unwrap_or(file).to_string_lossy().into_owned();
        let module = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut of_type = None;
        for (line, number) in self.text(&path)?.lines().zip(1..) {
            if line.starts_with("impl") || line.starts_with("pub trait ") {
                of_type = type_of(line);
            } else if line.starts_with('}') {
                of_type = None;
            }
            if let Some(name) = item_of(line) {
                let owner =
                    of_type.clone().filter(|_| line.starts_with(' ')).unwrap_or_else(|| module.clone());
                self.items.entry(name.to_owned()).or_default().push(Item {
                    file: path.clone(),
                    line: number,
                    owner,
                });
            }
        }
        Ok(())
    }
}

/// The ending of a file's name: `rs`, for example.
pub fn ending(path: &str) -> &str {
    Path::new(path).extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

/// The item, if there is one only.
fn only<'a>(mut items: impl Iterator<Item = &'a Item>) -> Option<&'a Item> {
    items.next().filter(|_| items.next().is_none())
}

/// The type that an `impl` is for: `impl<S: Session> Session for Telnet<S> {` is for `Telnet`.
fn type_of(line: &str) -> Option<String> {
    let words = line.split(" where").next()?.trim_end_matches([' ', '{']);
    let words = words.rsplit_once(" for ").map_or(words, |(_, after)| after);
    let words = words.trim_start_matches("pub trait ");
    let words = words.strip_prefix("impl").map_or(words, |rest| rest.trim_start_matches(|c| c != ' '));
    let name: String = words.trim().chars().take_while(|c| c.is_alphanumeric()).collect();
    Some(name).filter(|name| !name.is_empty())
}

/// The name of the item that a line begins.
fn item_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line
        .strip_prefix("pub")
        .map_or(line, |rest| rest.strip_prefix("(crate)").unwrap_or(rest))
        .trim_start();
    let line = line.strip_prefix("const fn ").map_or(line, |_| &line["const ".len()..]);
    let kinds = ["fn ", "struct ", "enum ", "trait ", "const ", "type "];
    let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
    let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|name| !name.is_empty())
}

/// The sources in a directory.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = || Failure::system(directory.display().to_string());
    for entry in fs::read_dir(directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
