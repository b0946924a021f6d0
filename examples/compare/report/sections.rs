//! The report as headings, rows and sentences, before it is a table or a page.

use super::{Ending, Report};
use crate::contender::Contender;
use crate::failure::Failure;
use crate::figures::{Figure, thousands};
use crate::rounds::{Cell, Summary};
use crate::syscalls::{CROWD, Calls, PerAnswer};
use crate::workload::{KNOCKING, Kind};

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
}

/// One server under one load.
pub struct Row {
    /// What the row is about.
    pub about: Vec<String>,
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
        self.about.iter().chain(figures).nth(column).map(String::as_str)
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

/// What one must know to read the figures.
pub fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if report.ending == Ending::Interrupted {
        notes.push("Interrupted: these are the figures up to then.".to_owned());
    }
    notes.push(format!("Machine: {}. Open files a process: {}.", report.machine, report.file_limit));
    notes.push(format!(
        "Each measurement took {:?} on a server started for it; rounds: {}, the servers taking turns. Shown is the \
         median; ± is half the distance between the least and the greatest. \"n/a\": the system does not tell.",
        report.time, report.rounds,
    ));
    notes.push(
        "The load is a closed loop: who waits for an answer sends nothing meanwhile, so a server that stands still for a \
         second shows one slow answer for each typist, not the many that would have been due (coordinated omission): \
         p99.9 and max are to be read together with answers/s. The typists beside a firehose type by the clock instead, \
         and their waiting counts from when a line was due: nothing is left out there."
            .to_owned(),
    );
    notes.push(
        "The load is one thread that checks every byte, on the same processors as the server: answers/s is what both achieve \
         together, CPU/answer is the server's alone. Where \"load CPUs\" comes near 1.00, the load is as busy as one thread \
         can be and sets the limit."
            .to_owned(),
    );
    notes.push(
        "Memory is what the process itself has (resident set). Socket buffers and the kernel's own stack for each thread \
         (16 KiB on x86-64 Linux) come on top and are charged to nobody."
            .to_owned(),
    );
    notes.push(format!(
        "Visitors close first, in order, as clients do, so TIME_WAIT stays on the load's side, spread over many loopback \
         addresses. All other sessions are reset after the measuring is over. At most {KNOCKING} connections are being made at \
         a time."
    ));
    notes
}

fn workload(report: &Report, kind: Kind, title: &str, sentence: String, figures: &[Figure]) -> Section {
    let cells = report.cells.iter().filter(|cell| cell.workload.kind == kind);
    let about_sessions = kind == Kind::PingPong;
    let mut head = vec!["server".to_owned()];
    if about_sessions {
        head.insert(0, "sessions".to_owned());
    }
    head.extend(figures.iter().map(|figure| title_of(*figure, kind)));
    let row = |cell: &Cell| {
        let mut about = vec![report.contenders[cell.contender].name.clone()];
        if about_sessions {
            about.insert(0, thousands(cell.workload.sessions() as f64));
        }
        Row { about, figures: texts(cell, figures) }
    };
    // What was not even begun when Ctrl-C came has no row.
    let rows = cells.filter(|cell| cell.failure.is_some() || !cell.runs.is_empty()).map(row).collect();
    Section { title: title.to_owned(), sentence, head, rows }
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
    Figure::ServerProcessors,
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
    Figure::Median,
    Figure::P99,
    Figure::P999,
    Figure::Slowest,
    Figure::MegabytesPerSecond,
    Figure::ServerProcessors,
    Figure::LoadProcessors,
];

const CHURN_SENTENCE: &str = "Ten visitors at a time connect, read the banner, send one line, take the answer and leave. \
    A visit takes from the first packet to the server's close.";
const BULK_SENTENCE: &str =
    "One session sends as fast as the server takes it, and every byte of the answers is checked.";

const COST_SENTENCE: &str = "What the same measurements cost the server. Memory and threads are counted when all sessions \
    are open and idle; a switch is \"own\" when a thread goes to wait, \"forced\" when it must give way to another.";
const FAIRNESS_SENTENCE: &str = "One session sends as fast as the server takes it, while 20 people type a line every \
    10 ms each. The latency is theirs.";

fn of_ping_pong(report: &Report) -> String {
    let typing = report.cells.iter().filter(|cell| cell.workload.kind == Kind::PingPong);
    let most = typing.map(|cell| cell.workload.typists).max().unwrap_or(0);
    format!(
        "At most {most} of the sessions type: the next line as soon as the last is answered. The others are only there, as \
         most telnet sessions are most of the time."
    )
}

fn title_of(figure: Figure, kind: Kind) -> String {
    match (figure, kind) {
        (Figure::AnswersPerSecond, Kind::Churn) => "visits/s".to_owned(),
        (Figure::ProcessorPerAnswer, Kind::Churn) => "CPU/visit".to_owned(),
        _ => figure.title().to_owned(),
    }
}

fn texts(cell: &Cell, figures: &[Figure]) -> Result<Vec<String>, String> {
    if let Some(failure) = &cell.failure {
        return Err(failure.to_string());
    }
    let text = |figure: &Figure| match cell.summary(*figure) {
        None => "n/a".to_owned(),
        Some(summary) => shown(*figure, &summary, cell.runs.len()),
    };
    Ok(figures.iter().map(text).collect())
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
    if compared && runs > 1 { format!("{median} ±{:.0}%", summary.spread() * 100.0) } else { median }
}

fn system_calls(report: &Report) -> Section {
    let row = |(contender, calls): (&Contender, &Option<Result<Calls, Failure>>)| {
        let figures = match calls.as_ref()? {
            Ok(Calls { alone, crowd }) => Ok(vec![sum(alone), names(alone), sum(crowd), names(crowd)]),
            Err(failure) => Err(failure.to_string()),
        };
        Some(Row { about: vec![contender.name.clone()], figures })
    };
    Section {
        title: "System calls for an answer".to_owned(),
        sentence: format!(
            "Counted by strace, in a run of its own. A line now and then is the dearest case for a loop, which then asks for \
             readiness before every answer; when {CROWD} type at once, one question serves many."
        ),
        head: ["server", "one now and then", "which", &format!("{CROWD} at once"), "which"]
            .map(str::to_owned)
            .to_vec(),
        rows: report.contenders.iter().zip(&report.calls).filter_map(row).collect(),
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
