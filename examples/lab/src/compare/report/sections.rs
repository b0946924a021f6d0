//! The report as headings, rows and sentences, for the terminal and for the page.

use super::{Report, rates};
use crate::compare::figures::Figure;
use crate::compare::rounds::{Cell, Summary};
use crate::compare::workload::Kind;
use crate::support::words::thousands;

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
    pub fn is_text(column: usize) -> bool {
        column == 0
    }
}

/// All sections that have rows.
pub fn all(report: &Report) -> Vec<Section> {
    let crowd = of_crowd(report);
    let tables = [
        (Kind::Typing, "One client types, the rest are idle", TYPING_SENTENCE, TYPING),
        (Kind::Crowd, "A crowd", &crowd, CROWD),
        (Kind::Churn, "Churn", CHURN_SENTENCE, CHURN),
        (Kind::Bulk, "Bulk", BULK_SENTENCE, BULK),
        (Kind::Fairness, "Active clients beside a flood", FAIRNESS_SENTENCE, FAIRNESS),
    ];
    let mut sections: Vec<_> = tables
        .map(|(kind, title, sentence, figures)| workload(report, kind, title, sentence, figures))
        .into();
    sections.insert(1, memory(report));
    sections.insert(2, rates::section(report));
    sections.retain(|section| !section.groups.is_empty());
    sections
}

/// The cells under the greatest number of sessions, for the memory of each.
pub fn fullest(report: &Report) -> impl Iterator<Item = &Cell> {
    let typing = || report.cells.iter().filter(|cell| cell.workload.kind == Kind::Typing && is_begun(cell));
    let most = typing().map(|cell| cell.workload.sessions()).max();
    typing().filter(move |cell| Some(cell.workload.sessions()) == most)
}

/// A measurement that had not begun when Ctrl-C came has no row.
fn is_begun(cell: &Cell) -> bool {
    cell.failure.is_some() || !cell.runs.is_empty()
}

fn memory(report: &Report) -> Section {
    let figures = |cell: &Cell| {
        if let Some(failure) = &cell.failure {
            return Err(failure.to_string());
        }
        let parts = MEMORY.map(|figure| Some(cell.summary(figure)?.median));
        let sum = parts.into_iter().sum::<Option<f64>>();
        let shown = |number: Option<f64>| number.map_or("n/a".to_owned(), |number| MEMORY[0].show(number));
        Ok(parts.into_iter().chain([sum]).map(shown).collect())
    };
    let row =
        |cell: &Cell| Row { server: report.contenders[cell.contender].name.clone(), figures: figures(cell) };
    let rows: Vec<_> = fullest(report).map(row).collect();
    let sessions = fullest(report).next().map_or(0, |cell| cell.workload.sessions());
    let heads = MEMORY.map(|figure| figure.title().to_owned());
    Section {
        title: "Memory of an idle session".to_owned(),
        sentence: format!(
            "Growth from none to {} sessions, for each session. Server: the process itself. The rest is the kernel's.",
            thousands(sessions as f64)
        ),
        head: ["server".to_owned()].into_iter().chain(heads).chain(["sum".to_owned()]).collect(),
        groups: if rows.is_empty() { Vec::new() } else { vec![Group { heading: None, rows }] },
        below: None,
    }
}

fn workload(report: &Report, kind: Kind, title: &str, sentence: &str, figures: &[Figure]) -> Section {
    let cells: Vec<&Cell> =
        report.cells.iter().filter(|cell| cell.workload.kind == kind && is_begun(cell)).collect();
    let row = |cell: &&Cell| Row {
        server: report.contenders[cell.contender].name.clone(),
        figures: texts(cell, figures),
    };
    let group = |cells: &[&Cell]| Group {
        heading: (kind == Kind::Typing)
            .then(|| format!("{} sessions", thousands(cells[0].workload.sessions() as f64))),
        rows: cells.iter().map(row).collect(),
    };
    let is_marked = figures.iter().any(|&figure| cells.iter().any(|cell| is_limited(cell, figure)));
    let names = figures.iter().map(|figure| title_of(*figure, kind));
    Section {
        title: title.to_owned(),
        sentence: sentence.to_owned(),
        head: Some("server".to_owned()).into_iter().chain(names).collect(),
        groups: cells.chunk_by(|one, other| one.workload == other.workload).map(group).collect(),
        below: is_marked.then(|| {
            let queue = if kind == Kind::Crowd { QUEUE_SENTENCE } else { "" };
            format!("{LIMITED_SENTENCE}{queue}")
        }),
    }
}

const TYPING: &[Figure] = &[
    Figure::ProcessorPerAnswer,
    Figure::Median,
    Figure::Opening,
    Figure::Threads,
    Figure::VoluntarySwitches,
];
/// What an idle session costs: the server's part first.
pub const MEMORY: [Figure; 4] = [
    Figure::MemoryPerSession,
    Figure::StacksPerSession,
    Figure::PageTablesPerSession,
    Figure::ObjectsPerSession,
];
const CROWD: &[Figure] = &[
    Figure::AnswersPerSecond,
    Figure::Median,
    Figure::P99,
    Figure::ProcessorPerAnswer,
    Figure::ServerProcessors,
    Figure::VoluntarySwitches,
    Figure::LoadProcessors,
];
const CHURN: &[Figure] = &[
    Figure::AnswersPerSecond,
    Figure::Median,
    Figure::P99,
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

const TYPING_SENTENCE: &str = "One client sends a line after each answer; nothing happens in the other sessions. It \
    shares a processor with the server, so that no figure has the cost of waking another one. \
    CPU/answer: the server's processor time. Opening: until all sessions have the banner. Switches: how often a thread \
    went to wait, for each answer.";
const CHURN_SENTENCE: &str = "Ten visitors at a time connect, read the banner, send one line, read the answer and leave. A \
    visit takes from the first packet to the server's close.";
const BULK_SENTENCE: &str = "One session sends as fast as the server takes it (a flood). thread_per_connection, \
    tiny_event_loop and poll_all write each answer of 1 KiB for itself. The others write many answers with one call: \
    compare the architectures by those.";
const FAIRNESS_SENTENCE: &str = "One session sends as fast as the server takes it, while 20 active clients send a line \
    every 10 ms each. The latency is theirs. Offered: the lines that were due; answered: those answered in time.";
const LIMITED_SENTENCE: &str = "\u{2265}: the load was busy without a pause there (0.95 processors or more), so the \
    server may be able to do more.";
const QUEUE_SENTENCE: &str = " All active clients then wait all the time, and the latency is that of a queue: about their \
    number divided by the answers a second.";

fn of_crowd(report: &Report) -> String {
    let crowd = report.cells.iter().find(|cell| cell.workload.kind == Kind::Crowd);
    format!(
        "Closed loop: each of {} clients sends the next line as soon as the last is answered. CPUs and load: the \
         processors that the server and the load kept busy.",
        crowd.map_or(0, |cell| cell.workload.active)
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
        Kind::Typing | Kind::Crowd | Kind::Churn => figure == Figure::AnswersPerSecond,
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
