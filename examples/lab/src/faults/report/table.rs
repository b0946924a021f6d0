//! The table without figures and reasons: two runs that judge alike have the same. It is written as Markdown, read again,
//! and compared.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::picture;
use crate::faults::case::{Finding, Verdict};
use crate::faults::runner::Results;
use crate::support::{Failure, output};

/// Cases down, servers across.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub servers: Vec<String>,
    pub rows: Vec<Row>,
}

/// The verdicts on one case, in the order of the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Such as 2.1.
    pub number: String,
    pub case: String,
    pub verdicts: Vec<Verdict>,
}

const HEAD: &str = "\
# Which faults does each server survive?

Written by `cargo run --release -p lab -- faults --markdown examples/lab/faults.md`. ✓ passes, ✗ fails, – not applicable,
? could not be run. `--list` says what each client does, and what a good server does.
";

impl Table {
    /// What a run has found.
    pub fn of(results: &Results) -> Self {
        let row = |row: &crate::faults::runner::Row| Row {
            number: row.case.number.clone(),
            case: row.case.name.clone(),
            verdicts: row.findings.iter().map(Finding::verdict).collect(),
        };
        Self {
            servers: results.servers.iter().map(|server| server.name.clone()).collect(),
            rows: results.rows.iter().map(row).collect(),
        }
    }

    /// Reads the table of a page that [`Self::write`] has written.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(file).map_err(Failure::system(file.display().to_string()))?;
        Self::parse(&text).ok_or_else(|| Failure::System(format!("{}: no table of verdicts", file.display())))
    }

    fn parse(text: &str) -> Option<Self> {
        let cells = |line: &str| -> Option<Vec<String>> {
            let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
            Some(line.split(" | ").map(str::to_owned).collect())
        };
        let mut lines = text.lines().filter_map(cells);
        let servers = lines.next()?.split_off(1);
        let row = |cells: Vec<String>| {
            let (number, case) = cells[0].split_once(' ')?;
            let verdict = |sign: &String| Verdict::ALL.into_iter().find(|verdict| verdict.sign() == sign);
            let verdicts: Vec<Verdict> = cells[1..].iter().map(verdict).collect::<Option<_>>()?;
            let is_whole = verdicts.len() == servers.len();
            is_whole.then(|| Row { number: number.to_owned(), case: case.to_owned(), verdicts })
        };
        let rows = lines.skip(1).map(row).collect::<Option<_>>()?;
        Some(Self { servers, rows })
    }

    fn markdown(&self) -> String {
        let mut text = format!("{HEAD}\n");
        let mut line =
            |cells: Vec<&str>| writeln!(text, "| {} |", cells.join(" | ")).expect("a string grows");
        line(["case"].into_iter().chain(self.servers.iter().map(String::as_str)).collect());
        line(["---"].into_iter().chain(self.servers.iter().map(|_| ":-:")).collect());
        for row in &self.rows {
            let name = format!("{} {}", row.number, row.case);
            let signs = row.verdicts.iter().map(|verdict| verdict.sign());
            line([name.as_str()].into_iter().chain(signs).collect());
        }
        text
    }

    /// Writes the page, and beside it the picture.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        output::write(file, self.markdown())?;
        output::write(&file.with_extension("svg"), picture::draw(self))
    }

    /// Which verdicts of `run` are not as here, a line for each. Servers and cases that did not run are not compared.
    pub fn differences(&self, run: &Self) -> Vec<String> {
        let verdicts = run.rows.iter().flat_map(|row| {
            run.servers.iter().zip(&row.verdicts).map(move |(server, verdict)| (&row.case, server, *verdict))
        });
        let difference = |(case, server, verdict): (&String, &String, Verdict)| {
            let expected = self.verdict(case, server);
            (expected != Some(verdict)).then(|| {
                let expected = expected.map_or("not in the table", Verdict::sign);
                format!("{case}, {server}: {expected} is expected, {} came", verdict.sign())
            })
        };
        verdicts.filter_map(difference).collect()
    }

    /// The number of a case may change when another one is added, the name does not.
    pub fn verdict(&self, case: &str, server: &str) -> Option<Verdict> {
        let column = self.servers.iter().position(|name| name == server)?;
        Some(self.rows.iter().find(|row| row.case == case)?.verdicts[column])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(cells: [&str; 4]) -> Table {
        let [a, b, c, d] = cells;
        let rows = format!("| 1.1 late | {a} | {b} |\n| 1.2 early | {c} | {d} |\n");
        Table::parse(&format!("Words.\n\n| case | one | two |\n| --- | :-: | :-: |\n{rows}"))
            .expect("a table")
    }

    #[test]
    fn a_table_that_was_written_is_read_again() {
        let table = table(["✓", "✗", "–", "?"]);
        assert_eq!(Table::parse(&table.markdown()), Some(table));
        assert_eq!(Table::parse("no table"), None);
        assert_eq!(Table::parse("| case | one |\n| --- | :-: |\n| 1.1 late | x |\n"), None, "no verdict");
        assert_eq!(Table::parse("| case | one |\n| --- | :-: |\n| 1.1 late |\n"), None, "a cell is missing");
    }

    #[test]
    fn another_verdict_is_a_difference_and_a_case_that_did_not_run_is_none() {
        let committed = table(["✓", "✗", "✓", "✓"]);
        assert_eq!(committed.differences(&committed), [""; 0]);
        let difference = "late, two: ✗ is expected, ✓ came";
        assert_eq!(committed.differences(&table(["✓", "✓", "✓", "✓"])), [difference]);
        let mut part = committed.clone();
        part.rows.remove(0);
        assert_eq!(committed.differences(&part), [""; 0]);
        assert_eq!(part.differences(&committed).len(), 2, "a case that the table lacks");
    }
}
