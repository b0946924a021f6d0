//! The report as headings, rows and sentences, for the terminal and for the pages.

use super::Report;
use crate::compare::figures::Figure;
use crate::compare::rounds::{Cell, Summary};
use crate::compare::search::{Knee, Sweep};
use crate::compare::workload::{Kind, Workload};
use crate::support::picture::shortened;
use crate::support::{microseconds, thousands};

/// From so many busy processors on, the load is as busy as it can be: it is one thread.
const SATURATED: f64 = 0.95;
/// The rates at which the table compares latencies (lines a second): rates of every sweep.
const COMPARED: [f64; 2] = [16_000.0, 64_000.0];
/// Marks what the load limited.
const AT_LEAST: &str = "\u{2265} ";

/// A heading, what it is about, and its rows.
pub struct Section {
    /// The heading.
    pub title: String,
    /// What was done, in a sentence.
    pub sentence: String,
    /// The columns' heads. The first column holds words, the others numbers.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// What a mark in some row means, if there is one.
    pub below: Option<String>,
}

/// A line of a table.
pub enum Row {
    /// What the rows below it have in common.
    Heading(String),
    /// A server's name, and its figures as text, or why there are none.
    Server(String, Result<Vec<String>, String>),
}

/// All sections that have rows.
pub fn all(report: &Report) -> Vec<Section> {
    let crowd = of_crowd(report);
    let typing = (Kind::Typing, "One client types, the rest are idle", TYPING_SENTENCE, TYPING);
    let others = [
        (Kind::Crowd, "A crowd", &crowd[..], CROWD),
        (Kind::Churn, "Churn", CHURN_SENTENCE, CHURN),
        (Kind::Bulk, "Bulk", BULK_SENTENCE, BULK),
        (Kind::Fairness, "Active clients beside a flood", FAIRNESS_SENTENCE, FAIRNESS),
        (Kind::Chat, "Chat", CHAT_SENTENCE, CHAT),
    ];
    let mut sections = vec![workload(report, typing), memory(report), rates(report)];
    sections.extend(others.map(|table| workload(report, table)));
    sections.retain(|section| !section.rows.is_empty());
    sections
}

/// The cells under the greatest number of sessions, for the memory of each.
pub fn fullest(report: &Report) -> impl Iterator<Item = &Cell> {
    let typing = || begun(report, Kind::Typing);
    let most = typing().map(|cell| cell.workload.sessions()).max();
    typing().filter(move |cell| Some(cell.workload.sessions()) == most)
}

/// The measurements that have begun: one that had not when Ctrl-C came has no row.
fn begun(report: &Report, kind: Kind) -> impl Iterator<Item = &Cell> {
    let is_begun = |cell: &&Cell| cell.failure.is_some() || !cell.runs.is_empty();
    report.cells.iter().filter(move |cell| cell.workload.kind == kind).filter(is_begun)
}

/// A cell's row, with these figures if it has some.
fn row(report: &Report, cell: &Cell, figures: impl FnOnce() -> Vec<String>) -> Row {
    let figures = cell.failure.as_ref().map_or_else(|| Ok(figures()), |failure| Err(failure.to_string()));
    Row::Server(report.contenders[cell.contender].name.clone(), figures)
}

fn memory(report: &Report) -> Section {
    let figures = |cell: &Cell| {
        let sums =
            cell.runs.iter().map(|run| MEMORY.iter().map(|&figure| run.of(figure)).sum::<Option<f64>>());
        let sum = sums.collect::<Option<_>>().and_then(Summary::of);
        let shown = |sum: Summary| format!("{}{}", MEMORY[0].show(sum.median), spread(&sum));
        let parts = MEMORY.iter().map(|&figure| text(cell, figure));
        parts.chain([sum.map_or("n/a".to_owned(), shown)]).collect()
    };
    let sessions = fullest(report).next().map_or(0, |cell| cell.workload.sessions());
    let heads = MEMORY.map(|figure| figure.title);
    Section {
        title: "Memory of an idle session".to_owned(),
        sentence: format!(
            "Growth from none to {} sessions, for each session. Server: the process itself. The rest is the kernel's.",
            thousands(sessions as f64)
        ),
        head: ["server"].into_iter().chain(heads).chain(["sum"]).map(str::to_owned).collect(),
        rows: fullest(report).map(|cell| row(report, cell, || figures(cell))).collect(),
        below: None,
    }
}

fn workload(report: &Report, (kind, title, sentence, figures): (Kind, &str, &str, &[Figure])) -> Section {
    let mut rows = Vec::new();
    let mut last: Option<&Workload> = None;
    for cell in begun(report, kind) {
        if matches!(kind, Kind::Typing | Kind::Chat) && last != Some(&cell.workload) {
            rows.push(Row::Heading(cell.workload.to_string()));
            last = Some(&cell.workload);
        }
        rows.push(row(report, cell, || figures.iter().map(|&figure| text(cell, figure)).collect()));
    }
    let is_marked = begun(report, kind).any(|cell| figures.iter().any(|&figure| is_limited(cell, figure)));
    let names = figures.iter().map(|figure| title_of(*figure, kind).to_owned());
    Section {
        title: title.to_owned(),
        sentence: sentence.to_owned(),
        head: Some("server".to_owned()).into_iter().chain(names).collect(),
        rows,
        below: is_marked.then(|| {
            let queue = if kind == Kind::Crowd { QUEUE_SENTENCE } else { "" };
            format!("{LIMITED_SENTENCE}{queue}")
        }),
    }
}

/// The knee of each server, and its latency at the same rates.
fn rates(report: &Report) -> Section {
    let latency = |sweep: &Sweep, rate: f64, quantile: f64| {
        let held = sweep.points.iter().find(|point| point.is_held() && (point.rate - rate).abs() < 1.0);
        held.map_or("n/a".to_owned(), |point| microseconds(point.latency(quantile)))
    };
    let share = |sweep: &Sweep| {
        let mark = if sweep.knee.is_limit_of_load { AT_LEAST } else { "" };
        let shown = |share: Summary| format!("{mark}{:.0} %{}", 100.0 * share.median, spread(&share));
        report.knee_of_first(sweep).map_or("n/a".to_owned(), shown)
    };
    let columns = || COMPARED.iter().flat_map(|&rate| [(rate, 0.5), (rate, 0.99)]);
    let figures = |sweep: &Sweep| {
        let latencies = columns().map(|(rate, quantile)| latency(sweep, rate, quantile));
        let knees = Summary::of(sweep.knees.iter().flatten().copied().collect());
        let knee = knee(sweep.knee) + &knees.as_ref().map_or(String::new(), spread);
        [knee, share(sweep)].into_iter().chain(latencies).collect()
    };
    let swept = report.contenders.iter().zip(&report.sweeps);
    let rows = swept.filter_map(|(contender, sweep)| {
        let figures = sweep.as_ref()?.as_ref().map(figures).map_err(ToString::to_string);
        Some(Row::Server(contender.name.clone(), figures))
    });
    let heads = columns().map(|(rate, quantile)| format!("p{:.0} {}k/s", quantile * 100.0, rate / 1e3));
    let first = report.contenders.first().map_or("the first", |first| &first.name);
    let of_first = format!("of {}", shortened(first));
    let is_limited = report.sweeps.iter().flatten().flatten().any(|sweep| sweep.knee.is_limit_of_load);
    Section {
        title: "Lines by the clock: the knee".to_owned(),
        sentence: format!("{} {OPEN_LOOP_SENTENCE}", thousands(report.swept_sessions() as f64)),
        head: ["server".to_owned(), "knee (lines/s)".to_owned(), of_first].into_iter().chain(heads).collect(),
        rows: rows.collect(),
        below: is_limited.then(|| LATE_SENTENCE.to_owned()),
    }
}

/// A knee as text: `≥` marks one that the load set.
pub fn knee(knee: Knee) -> String {
    let Some(rate) = knee.rate else { return "none".to_owned() };
    // Two steps of the search are 4 % apart: a fourth digit would say nothing.
    let digits = 10_f64.powf(rate.log10().floor() - 2.0);
    let mark = if knee.is_limit_of_load { AT_LEAST } else { "" };
    format!("{mark}{}", thousands((rate / digits).round() * digits))
}

const TYPING: &[Figure] = &[
    Figure::PROCESSOR_PER_ANSWER,
    Figure::MEDIAN,
    Figure::OPENING,
    Figure::THREADS,
    Figure::VOLUNTARY_SWITCHES,
];
/// What an idle session costs: the server's part first.
pub const MEMORY: [Figure; 4] = [
    Figure::MEMORY_PER_SESSION,
    Figure::STACKS_PER_SESSION,
    Figure::PAGE_TABLES_PER_SESSION,
    Figure::OBJECTS_PER_SESSION,
];
const CROWD: &[Figure] = &[
    Figure::ANSWERS_PER_SECOND,
    Figure::MEDIAN,
    Figure::P99,
    Figure::PROCESSOR_PER_ANSWER,
    Figure::SERVER_PROCESSORS,
    Figure::VOLUNTARY_SWITCHES,
    Figure::LOAD_PROCESSORS,
];
const CHURN: &[Figure] = &[
    Figure::ANSWERS_PER_SECOND,
    Figure::MEDIAN,
    Figure::P99,
    Figure::SLOWEST,
    Figure::PROCESSOR_PER_ANSWER,
    Figure::LOAD_PROCESSORS,
];
const BULK: &[Figure] = &[
    Figure::MEGABYTES_PER_SECOND,
    Figure::PROCESSOR_PER_MEGABYTE,
    Figure::SERVER_PROCESSORS,
    Figure::LOAD_PROCESSORS,
];
const FAIRNESS: &[Figure] = &[
    Figure::ANSWERS_PER_SECOND,
    Figure::OFFERED_PER_SECOND,
    Figure::MEDIAN,
    Figure::P99,
    Figure::SLOWEST,
    Figure::MEGABYTES_PER_SECOND,
    Figure::LOAD_PROCESSORS,
];

const CHAT: &[Figure] = &[
    Figure::DELIVERIES_PER_SECOND,
    Figure::PROCESSOR_PER_DELIVERY,
    Figure::TO_HALF,
    Figure::TO_LAST,
    Figure::P99,
    Figure::GROWTH,
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
    every 10 ms each. The latency is theirs. Offered: the lines a second that were due; answered: those answered in time.";
const CHAT_SENTENCE: &str = "Each line of a speaker goes to all other clients, and every line at every client is checked. \
    A speaker goes on when all clients that read have its lines. Median and last: until half of the clients, or the last \
    one, had all lines of a round. Command: the p99 of ten clients that send a command every 10 ms each. Growth: of the \
    server's memory meanwhile.";
const LIMITED_SENTENCE: &str = "\u{2265}: the load was busy without a pause there (0.95 processors or more), so the \
    server may be able to do more.";
const QUEUE_SENTENCE: &str = " All active clients then wait all the time, and the latency is that of a queue: about their \
    number divided by the answers a second.";

const OPEN_LOOP_SENTENCE: &str = "sessions send lines by the clock, as a Poisson process (open loop). A session does \
    not wait for answers, and a latency counts from when its line was due. Knee: the rate at which half of the slices are \
    held; a slice is held if half of its lines are answered within 1 ms. The servers take turns slice by slice, so their \
    shares are repeatable where the machine's speed is not. p50 and p99: medians of the slices at this rate. n/a: not held.";
const LATE_SENTENCE: &str = "\u{2265}: in most slices that were not held, the load sent half of the lines more than 250 µs late, so \
    the server may hold more.";

fn of_crowd(report: &Report) -> String {
    let crowd = report.cells.iter().find(|cell| cell.workload.kind == Kind::Crowd);
    format!(
        "Closed loop: each of {} clients sends the next line as soon as the last is answered. CPUs and load: the \
         processors that the server and the load kept busy.",
        crowd.map_or(0, |cell| cell.workload.sessions())
    )
}

fn title_of(figure: Figure, kind: Kind) -> &'static str {
    match (figure, kind) {
        (Figure::ANSWERS_PER_SECOND, Kind::Churn) => "visits/s",
        (Figure::PROCESSOR_PER_ANSWER, Kind::Churn) => "CPU/visit",
        (Figure::ANSWERS_PER_SECOND, Kind::Fairness) => "answered",
        (Figure::P99, Kind::Chat) => "command",
        _ => figure.title,
    }
}

/// The median, with the spread where a reader compares the servers by it.
fn text(cell: &Cell, figure: Figure) -> String {
    let Some(summary) = cell.summary(figure) else { return "n/a".to_owned() };
    let mark = if is_limited(cell, figure) { AT_LEAST } else { "" };
    let spread = if figure.is_compared && cell.runs.len() > 1 { spread(&summary) } else { String::new() };
    format!("{mark}{}{spread}", figure.show(summary.median))
}

/// Nothing for a figure that was the same each time.
fn spread(summary: &Summary) -> String {
    let spread = summary.spread();
    if spread > 0.0 { format!(" \u{b1}{:.0}%", spread * 100.0) } else { String::new() }
}

/// Whether the load set the limit, so that the server may be able to do more. Clients that send by the clock do not count:
/// they ask for no more than their part.
fn is_limited(cell: &Cell, figure: Figure) -> bool {
    let busy = cell.summary(Figure::LOAD_PROCESSORS).is_some_and(|load| load.median >= SATURATED);
    let is_speed = match cell.workload.kind {
        Kind::Typing | Kind::Crowd | Kind::Churn => figure == Figure::ANSWERS_PER_SECOND,
        Kind::Bulk | Kind::Fairness | Kind::Rates => figure == Figure::MEGABYTES_PER_SECOND,
        Kind::Chat => figure == Figure::DELIVERIES_PER_SECOND,
    };
    busy && is_speed && cell.failure.is_none()
}
