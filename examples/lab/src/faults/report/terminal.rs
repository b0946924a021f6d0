//! The table in the terminal, row by row while the cases run, and each failure in words.

use std::path::Path;

use console::{Style, style};

use crate::faults::case::{Case, Finding, Stop, Verdict};
use crate::faults::runner::{Results, Row};
use crate::support::{Candidate, say, time};

/// Where the servers' columns begin.
const MARGIN: usize = 28;

/// Which column is which server.
pub fn head(servers: &[Candidate]) {
    for (index, server) in servers.iter().enumerate() {
        let lines = "│ ".repeat(index);
        say(format_args!("{:MARGIN$}{lines}┌ {}", "", server.name));
    }
}

/// The verdicts on one case, below the title of its group if that is new.
pub fn row(row: &Row) {
    if row.is_first {
        say(style(&row.case.title).bold());
    }
    let sign = |finding: &Finding| colour(finding.verdict()).apply_to(finding.verdict().sign()).to_string();
    let signs = row.findings.iter().map(sign).collect::<Vec<_>>().join(" ");
    say(format_args!("{:>5} {:22}{signs}", row.case.number, row.case.name));
}

fn colour(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Passes => Style::new().green(),
        Verdict::Fails => Style::new().red().bold(),
        Verdict::NotApplicable => Style::new().dim(),
        Verdict::CouldNotRun => Style::new().yellow(),
    }
}

/// Each case that a server failed, or that could not be run, with its reason.
pub fn failures(results: &Results) {
    for row in &results.rows {
        let is_told = |finding: &&Finding| matches!(finding.verdict(), Verdict::Fails | Verdict::CouldNotRun);
        let mut told = row.findings.iter().filter(is_told).peekable();
        if told.peek().is_none() {
            continue;
        }
        say("");
        say(style(format!("{} {}", row.case.number, row.case.name)).bold());
        say(&row.case.client);
        say(format_args!("{} ({})", row.case.server, row.case.rule));
        for finding in told {
            let (name, verdict) = (style(&finding.server).bold(), finding.verdict());
            let verdict = colour(verdict).apply_to(verdict.words());
            match &finding.outcome {
                Err(Stop::Fails(failure)) => {
                    say(format_args!("  {name} {verdict}"));
                    say(format_args!("    expected: {}", failure.expected));
                    say(format_args!("    came:     {}", failure.came));
                }
                Err(Stop::NotApplicable(why) | Stop::CannotRun(why)) => {
                    say(format_args!("  {name} {verdict}: {why}"));
                }
                Ok(_) => {}
            }
        }
    }
}

/// How many cases each server passed.
pub fn summary(results: &Results, out: &Path) {
    say("");
    let width = results.servers.iter().map(|server| server.name.len()).max().unwrap_or(0);
    for (server, counts) in results.servers.iter().zip(results.counts()) {
        let counts = Verdict::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0);
        let told = counts.map(|(verdict, count)| {
            colour(verdict).apply_to(format!("{count} {}", verdict.words())).to_string()
        });
        say(format_args!("{:width$}  {}", server.name, told.collect::<Vec<_>>().join(", ")));
    }
    let interrupted = if results.interrupted { "interrupted after" } else { "took" };
    say(format_args!(
        "The run {interrupted} {}. Report: {}",
        time(results.took),
        out.join("faults.html").display()
    ));
}

/// The cases, without running them.
pub fn list(cases: &[Case]) {
    let mut group = "";
    for case in cases {
        if case.group != group {
            group = &case.group;
            say(format_args!("{} ({group})", style(&case.title).bold()));
        }
        say(format_args!("{:>5} {}", case.number, style(&case.name).bold()));
        say(format_args!("      {}", case.client));
        let needs = if case.play.needs_process { "; needs the server's process" } else { "" };
        say(format_args!("      {} ({}{needs})", case.server, case.rule));
    }
}
