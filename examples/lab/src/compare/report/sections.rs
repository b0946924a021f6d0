//! The report as headings, rows and sentences, for the terminal and for the page.

use super::{Report, rates};
use crate::compare::contender::Contender;
use crate::compare::figures::{Figure, thousands};
use crate::compare::rounds::{Cell, Summary};
use crate::compare::sweep::{Sweep, Verdict};
use crate::compare::syscalls::{CROWD, Calls, PerAnswer};
use crate::compare::workload::Kind;
use crate::support::failure::Failure;

/// From so many busy processors on, the load is as busy as it can be: it is one thread.
const SATURATED: f64 = 0.95;

/// A heading, what it is about, and its rows.
pub struct Section {
    /// The heading.
    pub title: String,
    /// What was done, in a sentence.
    pub sentence: String,
    /// The columns' heads.
    pub head: Vec<String>,
    /// The rows, in groups.
    pub groups: Vec<Group>,
    /// What a mark in some row means, if there is one.
    pub below: Option<String>,
}

/// Rows that belong together.
pub struct Group {
    /// What they have in common, if the table has several groups.
    pub heading: Option<String>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One server under one load.
pub struct Row {
    /// The server's name, which stands in the first column.
    pub server: String,
    /// Its figures as text, or why there are none.
    pub figures: Result<Vec<String>, String>,
}

impl Section {
    /// Whether the column holds words, not numbers.
    pub fn is_text(&self, column: usize) -> bool {
        matches!(self.head[column].as_str(), "server" | "which")
    }
}

/// All sections that have rows.
pub fn all(report: &Report) -> Vec<Section> {
    let workloads = [
        (Kind::PingPong, "Some active, the rest idle: speed", of_ping_pong(report), SPEED),
        (Kind::PingPong, "Some active, the rest idle: cost", COST_SENTENCE.to_owned(), COST),
        (Kind::Churn, "Churn", CHURN_SENTENCE.to_owned(), CHURN),
        (Kind::Bulk, "Bulk", BULK_SENTENCE.to_owned(), BULK),
        (Kind::Fairness, "Active clients beside a flood", FAIRNESS_SENTENCE.to_owned(), FAIRNESS),
    ];
    workloads
        .into_iter()
        .map(|(kind, title, sentence, figures)| workload(report, kind, title, sentence, figures))
        .chain([open_loop(report), system_calls(report)])
        .filter(|section| !section.groups.is_empty())
        .collect()
}

fn workload(report: &Report, kind: Kind, title: &str, sentence: String, figures: &[Figure]) -> Section {
    // A measurement that had not begun when Ctrl-C came has no row.
    let is_begun = |cell: &&Cell| cell.failure.is_some() || !cell.runs.is_empty();
    let cells: Vec<&Cell> =
        report.cells.iter().filter(|cell| cell.workload.kind == kind).filter(is_begun).collect();
    let row = |cell: &&Cell| Row {
        server: report.contenders[cell.contender].name.clone(),
        figures: texts(cell, figures),
    };
    let group = |cells: &[&Cell]| Group {
        heading: (kind == Kind::PingPong)
            .then(|| format!("{} sessions", thousands(cells[0].workload.sessions() as f64))),
        rows: cells.iter().map(row).collect(),
    };
    let is_marked = figures.iter().any(|&figure| cells.iter().any(|cell| is_limited(cell, figure)));
    let names = figures.iter().map(|figure| title_of(*figure, kind));
    Section {
        title: title.to_owned(),
        sentence,
        head: Some("server".to_owned()).into_iter().chain(names).collect(),
        groups: cells.chunk_by(|one, other| one.workload == other.workload).map(group).collect(),
        below: is_marked.then(|| {
            let queue = if kind == Kind::PingPong { QUEUE_SENTENCE } else { "" };
            format!("{LIMITED_SENTENCE}{queue}")
        }),
    }
}

const SPEED: &[Figure] = &[
    Figure::AnswersPerSecond,
    Figure::Median,
    Figure::P99,
    Figure::P999,
    Figure::Slowest,
    Figure::Opening,
    Figure::LoadProcessors,
];
const COST: &[Figure] = &[
    Figure::ProcessorPerAnswer,
    Figure::ServerProcessors,
    Figure::MemoryPerSession,
    Figure::Memory,
    Figure::Threads,
    Figure::VoluntarySwitches,
    Figure::InvoluntarySwitches,
];
const CHURN: &[Figure] = &[
    Figure::AnswersPerSecond,
    Figure::Median,
    Figure::P99,
    Figure::P999,
    Figure::Slowest,
    Figure::ProcessorPerAnswer,
    Figure::LoadProcessors,
];
const BULK: &[Figure] = &[
    Figure::MegabytesPerSecond,
    Figure::ProcessorPerMegabyte,
    Figure::ServerProcessors,
    Figure::LoadProcessors,
];
const FAIRNESS: &[Figure] = &[
    Figure::AnswersPerSecond,
    Figure::OfferedPerSecond,
    Figure::Median,
    Figure::P99,
    Figure::Slowest,
    Figure::MegabytesPerSecond,
    Figure::LoadProcessors,
];

const COST_SENTENCE: &str = "What the same measurements cost the server. CPUs: the processors that it kept busy. Memory \
    and threads are counted while all sessions are open and idle. Switches: how often a thread went to wait, for each \
    answer; forced: how often it had to give way to another.";
const CHURN_SENTENCE: &str = "Ten visitors at a time connect, read the banner, send one line, read the answer and leave. A \
    visit takes from the first packet to the server's close.";
const BULK_SENTENCE: &str = "One session sends as fast as the server takes it. Between the servers of this project it \
    shows how many answers one write sends, not how the server waits: okloop gathers answers in a buffer; the two others \
    write each answer of 1 KiB for itself. A thread could gather answers too.";
const FAIRNESS_SENTENCE: &str = "One session sends as fast as the server takes it, while 20 active clients send a line \
    every 10 ms each. The latency is theirs. Offered: the lines that were due; answered: those answered in time.";
const LIMITED_SENTENCE: &str = "\u{2265}: the load was busy without a pause there (0.95 processors or more), so the \
    server may be able to do more.";
const QUEUE_SENTENCE: &str = " All active clients then wait all the time, and the latency is that of a queue: about their \
    number divided by the answers a second.";

/// The rates at which the table compares latencies (lines a second): rates of every sweep.
const COMPARED: [f64; 2] = [16_000.0, 64_000.0];
const OPEN_LOOP_SENTENCE: &str = "1,000 sessions send lines by the clock, as a Poisson process (open loop). A session does \
    not wait for answers, and a latency counts from when its line was due. Knee: the highest rate at which 9 of 10 lines \
    are answered within 10 ms. The load has one processor for itself, the server has the others. n/a: not held.";
const LATE_SENTENCE: &str = "\u{2265}: at the next rate the load sent 1 line in 10 more than 1 ms late, so the server may \
    hold more.";

fn of_ping_pong(report: &Report) -> String {
    let cells = report.cells.iter().filter(|cell| cell.workload.kind == Kind::PingPong);
    let most = cells.map(|cell| cell.workload.active).max().unwrap_or(0);
    format!(
        "At most {most} of the sessions are active: they send the next line as soon as the last is answered. The others are \
         idle, as most telnet sessions are. Opening: until all have the banner. Load: the processors that the load kept \
         busy."
    )
}

fn title_of(figure: Figure, kind: Kind) -> String {
    match (figure, kind) {
        (Figure::AnswersPerSecond, Kind::Churn) => "visits/s".to_owned(),
        (Figure::ProcessorPerAnswer, Kind::Churn) => "CPU/visit".to_owned(),
        (Figure::AnswersPerSecond, Kind::Fairness) => "answered/s".to_owned(),
        _ => figure.title().to_owned(),
    }
}

fn texts(cell: &Cell, figures: &[Figure]) -> Result<Vec<String>, String> {
    if let Some(failure) = &cell.failure {
        return Err(failure.to_string());
    }
    let text = |figure: &Figure| match cell.summary(*figure) {
        None => "n/a".to_owned(),
        Some(summary) => {
            let mark = if is_limited(cell, *figure) { "\u{2265} " } else { "" };
            format!("{mark}{}", shown(*figure, &summary, cell.runs.len()))
        }
    };
    Ok(figures.iter().map(text).collect())
}

/// Whether the load set the limit, so that the server may be able to do more. Clients that send by the clock do not count:
/// they ask for no more than their part.
fn is_limited(cell: &Cell, figure: Figure) -> bool {
    let busy = cell.summary(Figure::LoadProcessors).is_some_and(|load| load.median >= SATURATED);
    let is_speed = match cell.workload.kind {
        Kind::PingPong | Kind::Churn => figure == Figure::AnswersPerSecond,
        Kind::Bulk | Kind::Fairness => figure == Figure::MegabytesPerSecond,
    };
    busy && is_speed && cell.failure.is_none()
}

/// The median, with the spread where a reader compares the servers by it.
fn shown(figure: Figure, summary: &Summary, runs: usize) -> String {
    let compared = matches!(
        figure,
        Figure::AnswersPerSecond
            | Figure::MegabytesPerSecond
            | Figure::ProcessorPerAnswer
            | Figure::ProcessorPerMegabyte
            | Figure::P99
    );
    let median = figure.show(summary.median);
    if compared && runs > 1 && summary.median != 0.0 {
        format!("{median} ±{:.0}%", summary.spread() * 100.0)
    } else {
        median
    }
}

/// The knee of each server, and its latency at the same rates.
fn open_loop(report: &Report) -> Section {
    let latency = |sweep: &Sweep, rate: f64, quantile: f64| {
        let held = sweep
            .points
            .iter()
            .find(|point| point.verdict == Verdict::Held && (point.rate - rate).abs() < 1.0);
        held.map_or("n/a".to_owned(), |point| {
            Figure::Median.show(point.slice.latency.value_at_quantile(quantile) as f64 / 1e3)
        })
    };
    let figures = |sweep: &Sweep| {
        let latencies =
            COMPARED.iter().flat_map(|&rate| [0.5, 0.99].map(|quantile| latency(sweep, rate, quantile)));
        [rates::knee(sweep.knee)].into_iter().chain(latencies).collect()
    };
    let row = |(contender, sweep): (&Contender, &Option<Result<Sweep, Failure>>)| {
        let figures = sweep.as_ref()?.as_ref().map(figures).map_err(ToString::to_string);
        Some(Row { server: contender.name.clone(), figures })
    };
    let rows: Vec<_> = report.contenders.iter().zip(&report.sweeps).filter_map(row).collect();
    let heads = COMPARED
        .iter()
        .flat_map(|rate| ["p50", "p99"].map(|quantile| format!("{quantile} at {}k/s", rate / 1e3)));
    let is_limited = report.sweeps.iter().flatten().flatten().any(|sweep| sweep.knee.is_limit_of_load);
    Section {
        title: "Lines by the clock: the knee".to_owned(),
        sentence: OPEN_LOOP_SENTENCE.to_owned(),
        head: ["server".to_owned(), "knee (lines/s)".to_owned()].into_iter().chain(heads).collect(),
        groups: if rows.is_empty() { Vec::new() } else { vec![Group { heading: None, rows }] },
        below: is_limited.then(|| LATE_SENTENCE.to_owned()),
    }
}

fn system_calls(report: &Report) -> Section {
    let group = |heading: String, of: fn(&Calls) -> &PerAnswer| {
        let counted = report.contenders.iter().zip(&report.calls);
        let rows = counted.filter_map(|(contender, calls)| {
            let figures = match calls.as_ref()? {
                Ok(calls) => Ok(vec![sum(of(calls)), names(of(calls))]),
                Err(failure) => Err(failure.to_string()),
            };
            Some(Row { server: contender.name.clone(), figures })
        });
        Group { heading: Some(heading), rows: rows.collect() }
    };
    let alone = group("one line now and then".to_owned(), |calls| &calls.alone);
    let crowd = group(format!("{CROWD} active clients"), |calls| &calls.crowd);
    Section {
        title: "System calls for an answer".to_owned(),
        sentence: format!(
            "Counted by strace, in a run of its own. A line now and then costs a loop most: it asks for readiness before \
             every answer. With {CROWD} active clients, one call of epoll_wait serves many."
        ),
        head: ["server", "calls", "which"].map(str::to_owned).to_vec(),
        groups: [alone, crowd].into_iter().filter(|group| !group.rows.is_empty()).collect(),
        below: None,
    }
}

fn sum(calls: &PerAnswer) -> String {
    format!("{:.2}", calls.values().sum::<f64>())
}

/// The calls, the most frequent first. Those rarer than one in fifty answers belong to the opening.
fn names(calls: &PerAnswer) -> String {
    let mut calls: Vec<_> = calls.iter().filter(|(_, count)| **count >= 0.02).collect();
    calls.sort_by(|one, other| other.1.total_cmp(one.1));
    calls.iter().map(|(name, count)| format!("{name} {count:.2}")).collect::<Vec<_>>().join(", ")
}
