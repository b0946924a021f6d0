//! The report as headings, rows and sentences, before it is a table or a page.

use super::Report;
use crate::figures::{Figure, thousands};
use crate::rounds::{Cell, Summary};
use crate::syscalls::{CROWD, Calls, PerAnswer};
use crate::workload::{Kind, Workload};

/// From so many busy processors on, the load, which is one thread, is as busy as it can be.
const SATURATED: f64 = 0.95;

/// A heading, what it is about, and its rows.
pub struct Section {
    /// The heading.
    pub title: String,
    /// What was done, in a sentence.
    pub sentence: String,
    /// The columns' heads.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// What a mark in some row means, if there is one.
    pub below: Option<String>,
}

/// One server under one load.
pub struct Row {
    /// What this row and those beside it have in common, if a table has several such groups.
    pub group: Option<String>,
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

impl Row {
    /// The text in one column, if it has one.
    pub fn cell(&self, column: usize) -> Option<&str> {
        let figures = self.figures.as_ref().map_or(&[][..], Vec::as_slice);
        Some(&self.server).into_iter().chain(figures).nth(column).map(String::as_str)
    }
}

/// All sections with something in them.
pub fn all(report: &Report) -> Vec<Section> {
    let workloads = [
        (Kind::PingPong, "Some type, the rest idle: speed", of_ping_pong(report), SPEED),
        (Kind::PingPong, "Some type, the rest idle: cost", COST_SENTENCE.to_owned(), COST),
        (Kind::Churn, "Churn", CHURN_SENTENCE.to_owned(), CHURN),
        (Kind::Bulk, "Bulk", BULK_SENTENCE.to_owned(), BULK),
        (Kind::Fairness, "A firehose beside typists", FAIRNESS_SENTENCE.to_owned(), FAIRNESS),
    ];
    workloads
        .into_iter()
        .map(|(kind, title, sentence, figures)| workload(report, kind, title, sentence, figures))
        .chain([system_calls(report)])
        .filter(|section| !section.rows.is_empty())
        .collect()
}

fn workload(report: &Report, kind: Kind, title: &str, sentence: String, figures: &[Figure]) -> Section {
    // What was not even begun when Ctrl-C came has no row.
    let is_begun = |cell: &&Cell| cell.failure.is_some() || !cell.runs.is_empty();
    let cells: Vec<&Cell> =
        report.cells.iter().filter(|cell| cell.workload.kind == kind).filter(is_begun).collect();
    let row = |cell: &&Cell| Row {
        group: (kind == Kind::PingPong).then(|| group(&cell.workload)),
        server: report.contenders[cell.contender].name.clone(),
        figures: texts(cell, figures),
    };
    let is_marked = figures.iter().any(|&figure| cells.iter().any(|cell| is_limited(cell, figure)));
    let names = figures.iter().map(|figure| title_of(*figure, kind));
    Section {
        title: title.to_owned(),
        sentence,
        head: Some("server".to_owned()).into_iter().chain(names).collect(),
        rows: cells.iter().map(row).collect(),
        below: is_marked.then(|| {
            let queue = if kind == Kind::PingPong { QUEUE_SENTENCE } else { "" };
            format!("{LIMITED_SENTENCE}{queue}")
        }),
    }
}

fn group(workload: &Workload) -> String {
    format!("{} sessions", thousands(workload.sessions() as f64))
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
    and threads are counted when all sessions are open and idle. Switches: how often, for an answer, a thread went to \
    wait; forced: how often it had to give way to another.";
const CHURN_SENTENCE: &str = "Ten visitors at a time connect, read the banner, send one line, take the answer and leave. \
    A visit takes from the first packet to the server's close.";
const BULK_SENTENCE: &str = "One session sends as fast as the server takes it, and every byte of the answers is checked. \
    Between the servers of this project it shows how many answers go out in one write, not how the server waits: okloop \
    gathers them in a buffer; thread_per_connection and the smallest loop write each answer of 1 KiB by itself, and with \
    TCP_NODELAY each leaves as a packet of its own. A thread could gather answers too.";
const FAIRNESS_SENTENCE: &str = "One session sends as fast as the server takes it, while 20 people type a line every \
    10 ms each. The latency is theirs. Offered are the lines that were due, answered those whose answers came in time.";
const LIMITED_SENTENCE: &str = "\u{2265}: the load was busy without a pause there (0.95 processors or more), so the limit \
    may be its own, and the server may be able to do more.";
const QUEUE_SENTENCE: &str = " All who type are then waiting all the time, and the latency is that of a queue: about their \
    number divided by the answers a second.";

fn of_ping_pong(report: &Report) -> String {
    let typing = report.cells.iter().filter(|cell| cell.workload.kind == Kind::PingPong);
    let most = typing.map(|cell| cell.workload.typists).max().unwrap_or(0);
    format!(
        "At most {most} of the sessions type: the next line as soon as the last is answered. The others are only there, as \
         most telnet sessions are most of the time. Opening: until all are connected and greeted. Load: the processors \
         that the load kept busy."
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

/// Whether the figure is what the load could do, and so perhaps less than what the server could. Typists who go by the
/// clock ask for no more than they are meant to.
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

fn system_calls(report: &Report) -> Section {
    let counted = || report.contenders.iter().zip(&report.calls);
    let rows = |group: String, of: fn(&Calls) -> &PerAnswer| {
        counted().filter_map(move |(contender, calls)| {
            let figures = match calls.as_ref()? {
                Ok(calls) => Ok(vec![sum(of(calls)), names(of(calls))]),
                Err(failure) => Err(failure.to_string()),
            };
            Some(Row { group: Some(group.clone()), server: contender.name.clone(), figures })
        })
    };
    let alone = rows("one line now and then".to_owned(), |calls| &calls.alone);
    let crowd = rows(format!("{CROWD} lines at once"), |calls| &calls.crowd);
    Section {
        title: "System calls for an answer".to_owned(),
        sentence: format!(
            "Counted by strace, in a run of its own. A line now and then is the dearest case for a loop, which then asks for \
             readiness before every answer; when {CROWD} type at once, one question serves many."
        ),
        head: ["server", "calls", "which"].map(str::to_owned).to_vec(),
        rows: alone.chain(crowd).collect(),
        below: None,
    }
}

fn sum(calls: &PerAnswer) -> String {
    format!("{:.2}", calls.values().sum::<f64>())
}

/// The calls that matter, the most frequent first. What is rarer than one in fifty belongs to the opening, not to answers.
fn names(calls: &PerAnswer) -> String {
    let mut calls: Vec<_> = calls.iter().filter(|(_, count)| **count >= 0.02).collect();
    calls.sort_by(|one, other| other.1.total_cmp(one.1));
    calls.iter().map(|(name, count)| format!("{name} {count:.2}")).collect::<Vec<_>>().join(", ")
}
