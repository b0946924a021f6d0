//! The report for programs: every figure of every round.

use serde_json::{Value, json};

use super::Report;
use crate::compare::figures::Figures;
use crate::compare::rounds::Cell;
use crate::compare::search::{Point, Sweep, Verdict};
use crate::support::Failure;

/// The whole report as JSON.
pub fn render(report: &Report) -> String {
    let servers = report.contenders.iter();
    let servers = servers.map(|server| json!({ "name": server.name, "origin": server.origin.to_string() }));
    let sweeps = report.sweeps.iter().enumerate();
    let open_loop = sweeps.filter_map(|(place, sweep)| Some(open_loop(report, place, sweep.as_ref()?)));
    let value = json!({
        "okloop": env!("CARGO_PKG_VERSION"),
        "date": report.date,
        "command_line": report.command_line,
        "machine": report.machine,
        "open_files_per_process": report.file_limit,
        "kernel_object_bytes_of_load_per_session": report.end_of_session,
        "rounds": report.rounds,
        "seconds": report.time.as_secs_f64(),
        "interrupted": report.interrupted,
        "servers": servers.collect::<Vec<_>>(),
        "open_loop": open_loop.collect::<Vec<_>>(),
        "results": report.cells.iter().map(|cell| result(report, cell)).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn open_loop(report: &Report, place: usize, sweep: &Result<Sweep, Failure>) -> Value {
    let server = &report.contenders[place].name;
    match sweep {
        Err(failure) => json!({ "server": server, "failure": failure.to_string() }),
        Ok(sweep) => json!({
            "server": server,
            "sessions": report.swept_sessions(),
            "knee_per_second": sweep.knee.rate,
            "knee_is_limit_of_load": sweep.knee.is_limit_of_load,
            "rates": sweep.points.iter().map(rate).collect::<Vec<_>>(),
        }),
    }
}

fn rate(point: &Point) -> Value {
    json!({
        "offered_per_second": point.rate,
        "slices": point.slices.len(),
        "slices_held": point.count(Verdict::Held),
        "latency_p50_us": point.latency(0.5),
        "latency_p99_us": point.latency(0.99),
    })
}

fn result(report: &Report, cell: &Cell) -> Value {
    let measured = cell.runs.first().into_iter().flat_map(Figures::keys);
    let medians: Figures = measured.filter_map(|key| Some((*key, cell.summary(key)?.median))).collect();
    json!({
        "server": report.contenders[cell.contender].name,
        "workload": cell.workload.kind.key(),
        "load": cell.workload.to_string(),
        "sessions": cell.workload.sessions(),
        "failure": cell.failure.as_ref().map(ToString::to_string),
        "median": medians,
        "rounds": cell.runs,
    })
}
