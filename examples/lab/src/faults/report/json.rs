//! Everything that the run found, for other programs.

use std::path::Path;

use serde::Serialize;

use crate::faults::case::Finding;
use crate::faults::runner::Results;
use crate::support::candidates::Candidate;
use crate::support::failure::Failure;
use crate::support::output;

#[derive(Serialize)]
struct Report<'a> {
    interrupted: bool,
    seconds: f64,
    servers: &'a [Candidate],
    cases: Vec<Case<'a>>,
}

#[derive(Serialize)]
struct Case<'a> {
    number: String,
    name: &'a str,
    group: &'a str,
    client: &'a str,
    server: &'a str,
    rule: &'a str,
    /// In the order of the servers.
    findings: Vec<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    server: &'a str,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// The whole report as text.
pub fn text(results: &Results) -> String {
    let cases = results.rows.iter().map(|row| Case {
        number: row.case.number(),
        name: row.case.case.name,
        group: row.case.group.name,
        client: row.case.case.client,
        server: row.case.case.server,
        rule: row.case.case.rule,
        findings: results
            .servers
            .iter()
            .zip(&row.findings)
            .map(|(server, finding)| Named { server: &server.name, finding })
            .collect(),
    });
    let report = Report {
        interrupted: results.interrupted,
        seconds: results.took.as_secs_f64(),
        servers: &results.servers,
        cases: cases.collect(),
    };
    serde_json::to_string_pretty(&report).expect("the report holds nothing that JSON has no word for")
}

/// Writes faults.json.
pub fn write(results: &Results, directory: &Path) -> Result<(), Failure> {
    output::write(&directory.join("faults.json"), text(results))
}
