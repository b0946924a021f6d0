//! The table as Markdown, without figures, so that two runs that judge alike write the same.

use std::fmt::Write;
use std::path::Path;

use crate::faults::case::Verdict;
use crate::faults::runner::Results;
use crate::faults::servers::Server;

/// Instead of a verdict that another run may not repeat.
const BY_CHANCE: &str = "~";

/// The whole page.
pub fn text(results: &Results) -> String {
    let mut text = String::from(
        "# Which faults does each server survive?\n\nWritten by `cargo run --release -p lab -- faults --markdown \
         examples/lab/faults.md`. ✓ passes, ✗ fails, – not applicable, ? could not be run, ~ a matter of chance. `--list` says what each client \
         does, and what a good server does.\n\n",
    );
    let mut line = |cells: Vec<&str>| writeln!(text, "| {} |", cells.join(" | ")).expect("a string grows");
    let names = results.servers.iter().map(|server| server.name.as_str());
    line(["case"].into_iter().chain(names).collect());
    line(["---"].into_iter().chain(results.servers.iter().map(|_| ":-:")).collect());
    for row in &results.rows {
        let name = format!("{} {}", row.case.number(), row.case.case.name);
        let is_by_chance = |server: &Server| server.by_chance.contains(&row.case.case.name);
        let signs =
            row.findings.iter().zip(&results.servers).map(|(finding, server)| match finding.verdict {
                Verdict::Passes | Verdict::Fails if is_by_chance(server) => BY_CHANCE,
                verdict => verdict.sign(),
            });
        line([name.as_str()].into_iter().chain(signs).collect());
    }
    text
}

/// Writes the page.
pub fn write(results: &Results, file: &Path) -> Result<(), String> {
    super::write(file, text(results))
}
