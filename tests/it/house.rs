//! Who knows whom in `src`: arrows run down. And nothing is hidden from the documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of the library from the top down. A file imports only what stands below it, so there is no circle.
const LIBRARY: &[&str] = &[
    "lib",
    // The loop, and what a test has in its place.
    "server",
    "handle",
    "sessions",
    "conversation",
    // One connection.
    "connection",
    "connection/state",
    "connection/turn",
    // What they are made of.
    "listen",
    "acceptor",
    "client",
    "wakes",
    "requests",
    "deadlines",
    "caught_up",
    // The protocols and layers.
    "protocols/mod",
    "protocols/either",
    "protocols/telnet",
    "protocols/proxy",
    "protocols/ok",
    // The trait and its buffer.
    "session",
    "buffer",
    // The words that all share.
    "socket",
    "stats",
    "panics",
    "trace",
    "readiness",
    "error",
    "reason",
    "address",
    "config",
];

/// The files of the command.
const COMMAND: &[&str] =
    &["main", "arguments", "metrics", "logging", "http", "open_files", "process", "supervisor"];

/// All that a protocol knows: the trait, its buffer, and some words.
const OF_PROTOCOLS: &[&str] = &["session", "buffer", "reason", "address", "config"];

#[test]
fn no_file_imports_one_that_stands_above_it() {
    for (directory, order) in [("src", LIBRARY), ("src/bin/okloop", COMMAND)] {
        let imports = imports(&root().join(directory));
        let place = |file: &str| {
            let place = order.iter().position(|known| *known == file);
            place.unwrap_or_else(|| panic!("{directory}/{file}.rs has no place in the house: give it one"))
        };
        let is_up = |(from, to): &&(String, String)| place(from) >= place(to);
        let up: Vec<_> = imports.iter().filter(is_up).collect();
        assert!(up.is_empty(), "{directory}: arrows run up: {up:?}");
        assert!(imports.len() >= order.len() - 2, "{directory}: the imports are not found");
    }
}

#[test]
fn a_protocol_knows_the_trait_and_its_buffer_only() {
    let of_protocols = |(from, to): &&(String, String)| {
        from.starts_with("protocols/") && from != "protocols/mod" && !OF_PROTOCOLS.contains(&&to[..])
    };
    let imports = imports(&root().join("src"));
    let strangers: Vec<_> = imports.iter().filter(of_protocols).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn nothing_is_hidden_from_the_documentation() {
    for directory in ["src", "src/bin/okloop"] {
        for file in files(&root().join(directory)) {
            assert!(!fs::read_to_string(&file).unwrap().contains("doc(hidden)"), "{}", file.display());
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each file with each one that it imports, by their paths in `directory`.
fn imports(directory: &Path) -> BTreeSet<(String, String)> {
    let mut imports = BTreeSet::new();
    for file in files(directory) {
        let path = file.strip_prefix(directory).expect("it was found there").with_extension("");
        let folder = path.parent().expect("it is a file");
        let text = fs::read_to_string(&file).unwrap();
        // The tests stand at the end.
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = code.split("\n#[cfg(test)]\n#[path").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let from_root = line.split("crate::").skip(1).map(|rest| (Path::new(""), rest));
            let from_parent = line.strip_prefix("use super::").map(|rest| (folder, rest));
            let from_own =
                line.trim_start_matches("pub(crate) ").strip_prefix("use self::").map(|rest| (&*path, rest));
            for (start, rest) in from_root.chain(from_parent).chain(from_own) {
                let targets = paths(rest).into_iter().map(|rest| module(directory, start, rest));
                let others = targets.filter(|target| *target != path);
                imports.extend(others.map(|target| (name(&path), name(&target))));
            }
        }
    }
    imports
}

/// What stands behind `crate::`: one path, or several in braces.
fn paths(rest: &str) -> Vec<&str> {
    let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
    group.map_or_else(|| vec![rest], |group| group.split(", ").collect())
}

/// The file that the path `rest` begins with, from the folder on. A name that is no file comes from the folder's own.
fn module(directory: &Path, folder: &Path, rest: &str) -> PathBuf {
    let word = rest.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let inner = folder.join(word);
    if !word.is_empty() && directory.join(&inner).with_extension("rs").exists() {
        inner
    } else if !word.is_empty() && directory.join(&inner).is_dir() {
        module(directory, &inner, rest[word.len()..].trim_start_matches("::"))
    } else {
        let own = ["mod", "lib", "main"].map(|name| folder.join(name));
        own.into_iter().find(|own| directory.join(own).with_extension("rs").exists()).expect("it has one")
    }
}

fn name(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether a module in `directory` has the name `tests`, or is declared for tests alone.
fn is_of_tests(directory: &Path, name: &str) -> bool {
    let parents = [directory.join("mod.rs"), directory.join("lib.rs"), directory.with_extension("rs")];
    let declaration = format!("#[cfg(test)]\nmod {name};");
    let declares = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains(&declaration));
    name == "tests" || parents.iter().any(declares)
}

/// All sources in `directory` but those of tests, and of the command, which is a crate of its own.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().expect("it has a name").to_string_lossy();
        if stem == "bin" || is_of_tests(directory, &stem) {
            continue;
        }
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}
