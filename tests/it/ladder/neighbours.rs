//! The difference between two neighbours is the lesson, so it has to stay short.

use std::fs;
use std::path::Path;

use similar::{ChangeTag, TextDiff};

/// The loops, from the lowest rung to the highest.
const LOOPS: [&str; 5] = ["poll_all", "tiny_event_loop", "loop_backpressure", "loop_fair", "loop_deadlines"];

/// How much longer than its neighbour a rung may be (lines).
const LONGER: usize = 70;

/// How many lines of a rung may be new, its header included (lines).
const NEW: usize = 105;

#[test]
fn each_loop_adds_little_to_the_one_before() {
    for [(_, before), (name, after)] in neighbours() {
        let diff = TextDiff::from_lines(&before, &after);
        let new = diff.iter_all_changes().filter(|change| change.tag() == ChangeTag::Insert).count();
        let longer = after.lines().count().saturating_sub(before.lines().count());
        assert!(longer <= LONGER && new <= NEW, "{name} is {longer} lines longer, and {new} lines are new");
    }
}

/// Then the diff shows each function beside what it was.
#[test]
fn functions_keep_their_order_from_one_loop_to_the_next() {
    for [(_, before), (name, after)] in neighbours() {
        let (before, after) = (functions(&before), functions(&after));
        let shared: Vec<&String> = before.iter().filter(|function| after.contains(function)).collect();
        let still: Vec<&String> = after.iter().filter(|function| before.contains(function)).collect();
        assert!(shared.len() > 5, "{name} shares only {shared:?} with the rung before");
        assert_eq!(shared, still, "{name}");
    }
}

#[test]
fn each_header_names_the_next_rung() {
    for [(name, text), (next, _)] in neighbours() {
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(header.contains(&format!("`{next}`")), "{name} does not lead to {next}");
        assert!(header.contains(&format!("--example {name}")), "{name} does not say how to run it");
    }
}

/// The laboratory's table and the course agree: what a loop survives, and its neighbour not, is in the loop's chapter.
#[test]
fn each_chapter_names_the_faults_that_end_or_come_back() {
    let course = text("NOTES.md");
    for [(before, _), (name, _)] in neighbours() {
        let (_, chapter) = course.split_once(&format!(". {name}: ")).expect("each loop has a chapter");
        let chapter = chapter.split("\n## ").next().unwrap_or_default();
        let changed = changed_verdicts(before, name);
        assert!(!changed.is_empty(), "{name} survives the same faults as {before}");
        for fault in changed {
            assert!(chapter.contains(&fault), "the chapter of {name} does not name {fault}");
        }
    }
}

/// The cases of the laboratory in which two servers have different verdicts.
fn changed_verdicts(before: &str, after: &str) -> Vec<String> {
    let table = text("examples/lab/faults.md");
    let mut rows =
        table.lines().filter(|line| line.starts_with('|')).map(|line| line.split('|').map(str::trim));
    let servers = rows.next().expect("the table has a head");
    let column =
        |name| servers.clone().position(|server| server == name).expect("the server is in the table");
    let (before, after) = (column(before), column(after));
    let cells = rows.map(Iterator::collect::<Vec<_>>).filter(|cells| cells[before] != cells[after]);
    cells.map(|cells| cells[1].split(' ').next_back().unwrap_or_default().to_owned()).collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Each pair of neighbours: their names and their texts.
fn neighbours() -> impl Iterator<Item = [(&'static str, String); 2]> {
    let read = move |name| (name, text(&format!("examples/{name}.rs")));
    LOOPS.windows(2).map(move |pair| [read(pair[0]), read(pair[1])])
}

/// A file's functions in their order, each behind its type: `Server::turn`.
fn functions(text: &str) -> Vec<String> {
    let mut of_type = "";
    let mut functions = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("impl ") {
            of_type = name.trim_end_matches(" {");
        }
        let function = line.trim_start().strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next());
        functions.extend(function.map(|name| format!("{of_type}::{name}")));
    }
    functions
}
