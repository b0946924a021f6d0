//! The report for programs: every figure of every round.

use serde_json::{Value, json};

use super::{Occasion, Report};
use crate::compare::figures::{Figure, Figures};
use crate::compare::hdr;
use crate::compare::rounds::Cell;
use crate::compare::search::{Point, Sweep, Verdict};
use crate::compare::workload::Role;
use crate::support::{Candidate, Failure};

/// The whole report as JSON.
pub fn render(report: &Report) -> String {
    let Occasion { date, command_line, machine } = &report.occasion;
    let contenders = report.contenders.iter();
    let contenders =
        contenders.map(|contender| json!({ "name": contender.name, "origin": contender.origin.to_string() }));
    let value = json!({
        "okloop": env!("CARGO_PKG_VERSION"),
        "date": date,
        "command_line": command_line,
        "machine": {
            "processor": machine.processor,
            "processors": machine.processors,
            "memory_bytes": machine.memory,
            "system": machine.system,
            "kernel": machine.kernel,
            "load_average_before": machine.load_average,
            "open_files_per_process": report.file_limit,
        },
        "kernel_object_bytes_of_load_per_session": report.end_of_session,
        "rounds": report.rounds,
        "seconds": report.time.as_secs_f64(),
        "interrupted": report.interrupted,
        "servers": contenders.collect::<Vec<_>>(),
        "open_loop": open_loop(report),
        "results": report.cells.iter().map(|cell| result(report, cell)).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

/// The sweeps of the rates.
fn open_loop(report: &Report) -> Vec<Value> {
    let swept = report.contenders.iter().zip(&report.sweeps);
    let value = |(contender, sweep): (&Candidate, &Option<Result<Sweep, Failure>>)| {
        Some(match sweep.as_ref()? {
            Err(failure) => json!({ "server": contender.name, "failure": failure.to_string() }),
            Ok(sweep) => json!({
                "server": contender.name,
                "sessions": report.swept_sessions(),
                "knee_per_second": sweep.knee.rate,
                "knees_per_second": sweep.knees,
                "knee_of_first_server": report.knee_of_first(sweep).map(|share| share.median),
                "knee_is_limit_of_load": sweep.knee.is_limit_of_load,
                "histograms": hdr::file_name(&contender.name),
                "rates": sweep.points.iter().map(rate).collect::<Vec<_>>(),
            }),
        })
    };
    swept.filter_map(value).collect()
}

fn rate(point: &Point) -> Value {
    json!({
        "offered_per_second": point.rate,
        "slices": point.slices.len(),
        "slices_held": point.count(Verdict::Held),
        "slices_with_late_load": point.count(Verdict::LoadWasLate),
        "latency_p50_us": point.latency(0.5),
        "latency_p90_us": point.latency(0.9),
        "latency_p99_us": point.latency(0.99),
        "latency_max_us": point.latency(1.0),
    })
}

fn result(report: &Report, cell: &Cell) -> Value {
    let workload = &cell.workload;
    let measured = cell.runs.first().into_iter().flat_map(Figures::all);
    let medians = measured.filter_map(|(figure, _)| Some((figure, cell.summary(figure)?.median)));
    json!({
        "server": report.contenders[cell.contender].name,
        "workload": workload.kind.key(),
        "sessions": workload.sessions(),
        "idle": workload.count(Role::Idle),
        "active": workload.count(Role::Active) + workload.count(Role::Lines),
        "floods": workload.count(Role::Flood),
        "visitors": workload.count(Role::Visitor),
        "never_read": workload.count(Role::NeverReads),
        "failure": cell.failure.as_ref().map(ToString::to_string),
        "last_words": cell.failure.as_ref().and_then(Failure::last_words),
        "median": figures(medians),
        "rounds": cell.runs.iter().map(|run| figures(run.all())).collect::<Vec<_>>(),
    })
}

fn figures(figures: impl Iterator<Item = (Figure, f64)>) -> Value {
    figures.map(|(figure, number)| (figure.key.to_owned(), json!(number))).collect()
}
