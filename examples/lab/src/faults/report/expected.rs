//! A run compared with a table that another run has written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::markdown;
use crate::faults::runner::Results;

/// The sign for each case and server.
pub type Table = BTreeMap<(String, String), String>;

/// Reads the table of a page that [`markdown`] has written.
pub fn read(file: &Path) -> Result<Table, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let table = parse(&text);
    if table.is_empty() { Err(format!("{}: no table", file.display())) } else { Ok(table) }
}

fn parse(text: &str) -> Table {
    let cells = |line: &str| -> Option<Vec<String>> {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(line.split(" | ").map(str::to_owned).collect())
    };
    let mut rows = text.lines().filter_map(cells);
    let servers = rows.next().unwrap_or_default();
    let mut table = Table::new();
    for row in rows.skip(1) {
        // The number may change when a case is added, the name does not.
        let case = row[0].split_once(' ').map_or(row[0].as_str(), |(_, name)| name);
        for (server, sign) in servers.iter().zip(&row).skip(1) {
            table.insert((case.to_owned(), server.clone()), sign.clone());
        }
    }
    table
}

/// Whether each verdict is as in the table; says which is not. Servers and cases that did not run are not compared.
pub fn compare(committed: &Table, results: &Results) -> bool {
    let mut same = true;
    for (place, sign) in parse(&markdown::text(results)) {
        let before = committed.get(&place);
        if before != Some(&sign) {
            same = false;
            let (case, server) = place;
            let before = before.map_or("not in the table", String::as_str);
            eprintln!("{case}, {server}: {before} is expected, {sign} came");
        }
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_by_the_names_of_cases_and_servers() {
        let table =
            parse("# Title\n\nWords.\n\n| case | one | two |\n| --- | :-: | :-: |\n| 1.2 late | ✓ | ✗ |\n");
        let place = |case: &str, server: &str| (case.to_owned(), server.to_owned());
        assert_eq!(table.len(), 2);
        assert_eq!(table[&place("late", "one")], "✓");
        assert_eq!(table[&place("late", "two")], "✗");
    }
}
