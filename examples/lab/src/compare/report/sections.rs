//! The report as headings, rows and sentences, for the terminal and for the pages.

use std::iter;

use super::Report;
use crate::compare::figures::{COLUMNS, Figure, MEMORY};
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
const AT_MOST: &str = "\u{2264} ";

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
    let of = |kind, title, sentence| {
        let figures: Vec<_> = COLUMNS.iter().filter(|figure| figure.kinds.contains(&kind)).collect();
        table(report, title, sentence, &figures, begun(report, kind))
    };
    let memory: Vec<_> = MEMORY.iter().collect();
    let mut sections = vec![
        of(Kind::Typing, "One client types, the rest are idle", TYPING_SENTENCE),
        table(report, "Memory of an idle session", MEMORY_SENTENCE, &memory, fullest(report)),
        rates(report),
        of(Kind::Crowd, "A crowd", CROWD_SENTENCE),
        of(Kind::Churn, "Churn", CHURN_SENTENCE),
        of(Kind::Bulk, "Bulk", BULK_SENTENCE),
        of(Kind::Fairness, "Active clients beside a flood", FAIRNESS_SENTENCE),
        of(Kind::Chat, "Chat", CHAT_SENTENCE),
    ];
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

fn table<'a>(
    report: &Report,
    title: &str,
    sentence: &str,
    figures: &[&Figure],
    cells: impl Iterator<Item = &'a Cell>,
) -> Section {
    let (mut rows, mut is_marked) = (Vec::new(), false);
    let mut last: Option<&Workload> = None;
    for cell in cells {
        let is_of_several = matches!(cell.workload.kind, Kind::Typing | Kind::Chat);
        if is_of_several && last != Some(&cell.workload) {
            rows.push(Row::Heading(cell.workload.to_string()));
            last = Some(&cell.workload);
        }
        let texts = |figure: &Figure| {
            let share = figure.is_cost.then(|| share_of_cost(report, cell, figure.key));
            iter::once(text(cell, figure)).chain(share)
        };
        let figures = cell.failure.as_ref().map_or_else(
            || Ok(figures.iter().flat_map(|&figure| texts(figure)).collect::<Vec<_>>()),
            |failure| Err(failure.to_string()),
        );
        is_marked |= figures.iter().flatten().any(|text| text.starts_with(AT_LEAST));
        rows.push(Row::Server(report.contenders[cell.contender].name.clone(), figures));
    }
    let first = rows.iter().find_map(|row| match row {
        Row::Server(name, _) => Some(name),
        Row::Heading(_) => None,
    });
    let of_first = of(first.map_or("the first", |first| first));
    let titles = figures
        .iter()
        .flat_map(|figure| iter::once(figure.title).chain(figure.is_cost.then_some(&*of_first)));
    Section {
        title: title.to_owned(),
        sentence: sentence.to_owned(),
        head: ["server"].into_iter().chain(titles).map(str::to_owned).collect(),
        rows,
        below: is_marked.then(|| LIMITED_SENTENCE.to_owned()),
    }
}

/// The head of a column of shares.
fn of(first: &str) -> String {
    format!("of {}", shortened(first))
}

/// A cost as a share of the first server's: the median of the rounds' shares. In a round the servers are measured within
/// seconds, so it depends less on the machine's speed than the figure itself.
fn share_of_cost(report: &Report, cell: &Cell, key: &str) -> String {
    let first = report.cells.iter().find(|first| first.workload == cell.workload);
    let share = first.and_then(|first| cell.share_of(first, key));
    share.map_or("n/a".to_owned(), |share| format!("{:.0} %{}", 100.0 * share.median, spread(share)))
}

/// A knee as a share of the first server's. None if the load set both, or if one server has no knee.
fn share(knee: Knee, first: Knee) -> Option<String> {
    let bound = match (knee.is_limit_of_load, first.is_limit_of_load) {
        (false, false) => "",
        (true, false) => AT_LEAST,
        (false, true) => AT_MOST,
        (true, true) => return None,
    };
    Some(format!("{bound}{:.0} %", 100.0 * knee.rate? / first.rate?))
}

/// The knee of each server, and its latency at the same rates.
fn rates(report: &Report) -> Section {
    let latency = |sweep: &Sweep, rate: f64, quantile: f64| {
        let held = sweep.points.iter().find(|point| point.is_held() && (point.rate - rate).abs() < 1.0);
        held.map_or("n/a".to_owned(), |point| microseconds(point.latency(quantile)))
    };
    let first = report.sweeps.first().and_then(|sweep| Some(sweep.as_ref()?.as_ref().ok()?.knee));
    let share = |sweep: &Sweep| first.and_then(|first| share(sweep.knee, first)).unwrap_or("n/a".to_owned());
    let columns = || COMPARED.iter().flat_map(|&rate| [(rate, 0.5), (rate, 0.99)]);
    let figures = |sweep: &Sweep| {
        let latencies = columns().map(|(rate, quantile)| latency(sweep, rate, quantile));
        [knee(sweep.knee), share(sweep)].into_iter().chain(latencies).collect()
    };
    let swept = report.contenders.iter().zip(&report.sweeps);
    let rows = swept.filter_map(|(contender, sweep)| {
        let figures = sweep.as_ref()?.as_ref().map(figures).map_err(ToString::to_string);
        Some(Row::Server(contender.name.clone(), figures))
    });
    let heads = columns().map(|(rate, quantile)| format!("p{:.0} {}k/s", quantile * 100.0, rate / 1e3));
    let first = report.contenders.first().map_or("the first", |first| &first.name);
    let of_first = of(first);
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

const TYPING_SENTENCE: &str = "One client sends a line after each answer; nothing happens in the other sessions. It \
    shares a processor with the server, so that no figure has the cost of waking another one. \
    CPU/answer: the server's processor time. Opening: until all sessions have the banner. Switches: how often a thread \
    went to wait, for each answer.";
const MEMORY_SENTENCE: &str = "Growth from none to all sessions, for each session. Process: the server itself. The rest is the \
    kernel's.";
const CROWD_SENTENCE: &str = "Closed loop: each of the clients (100, or --active) sends the next line as soon as the last is \
    answered. CPUs and load: the processors that the server and the load kept busy. Where the load is busy without a \
    pause, the latency is that of a queue: about the number of clients divided by the answers a second.";
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

const OPEN_LOOP_SENTENCE: &str = "sessions send lines by the clock, as a Poisson process (open loop). A session does \
    not wait for answers, and a latency counts from when its line was due. Knee: the rate at which half of the slices are \
    held; a slice is held if half of its lines are answered within 1 ms. The servers take turns slice by slice, so their \
    shares are repeatable where the machine's speed is not. p50 and p99: medians of the slices at this rate. n/a: not held, or \
    the load set both knees.";
const LATE_SENTENCE: &str = "\u{2265}: in most slices that were not held, the load sent half of the lines more than 250 µs late, so \
    the server may hold more.";

/// The median, with the spread where a reader compares the servers by it. A mark where the load was as busy as it can be.
fn text(cell: &Cell, figure: &Figure) -> String {
    let Some(summary) = cell.summary(figure.key) else { return "n/a".to_owned() };
    let is_limited = || cell.summary("load_cpus_busy").is_some_and(|load| load.median >= SATURATED);
    let mark = if figure.is_speed && is_limited() { AT_LEAST } else { "" };
    let spread = if figure.is_compared { spread(summary) } else { String::new() };
    format!("{mark}{}{spread}", figure.show(summary.median))
}

/// Nothing for a figure that was the same each time.
fn spread(summary: Summary) -> String {
    let spread = Some(100.0 * summary.spread()).filter(|&spread| spread > 0.0);
    spread.map(|spread| format!(" \u{b1}{spread:.0}%")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_says_which_of_both_knees_the_load_has_set() {
        let knee = |rate, is_limit_of_load| Knee { rate: Some(rate), is_limit_of_load };
        let share = |load_set, load_set_first| share(knee(50e3, load_set), knee(100e3, load_set_first));
        let shares = [(false, false), (true, false), (false, true)].map(|(one, first)| share(one, first));
        assert_eq!(shares, ["50 %", "\u{2265} 50 %", "\u{2264} 50 %"].map(|text| Some(text.to_owned())));
        assert_eq!(share(true, true), None);
    }
}
