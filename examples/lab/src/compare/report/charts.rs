//! Which pictures there are, and what they show. How they are drawn is in `curves`.

use super::Report;
use super::curves::{self, Axis, Panel, steps};
use super::sections::{fullest, knee};
use crate::compare::figures::MEMORY;
use crate::compare::rounds::{Cell, Summary};
use crate::compare::search::{FIRST, Point, Sweep, Verdict};
use crate::compare::workload::Kind;
use crate::support::picture::shortened;
use crate::support::{bytes, many, microseconds, thousands};

/// The picture of the rates ends there (microseconds). Above, the latency is only that of a queue that grows.
const TOP: f64 = 100_000.0;

/// No answer takes longer (microseconds).
const LONGEST: f64 = 1e9;

/// All pictures, each with its name. One for which nothing was measured says so. What to see in it is in `compare.html`.
pub fn all(report: &Report) -> Vec<(&'static str, String)> {
    let bars = |title, kind, key| bars(report, title, kind, key);
    let delivery = "Processor time for a delivery in a chat";
    vec![
        ("cpu", cpu(report, "Processor time for an answer")),
        ("memory", memory(report, "Memory of an idle session")),
        ("rates", rates(report, "Latency against the offered rate")),
        ("fairness", bars("The p99 beside a flood", Kind::Fairness, "latency_p99_us")),
        ("bulk", bars("Processor time for a megabyte", Kind::Bulk, "server_cpu_us_per_megabyte")),
        ("churn", bars("Processor time for a visit", Kind::Churn, "server_cpu_us_per_answer")),
        ("chat", bars(delivery, Kind::Chat, "server_cpu_us_per_delivery")),
    ]
}

fn cpu(report: &Report, title: &str) -> String {
    let points = |contender: usize| -> Vec<(f64, Summary)> {
        let cells = measured(report, Kind::Typing).filter(|cell| cell.contender == contender);
        let point =
            |cell: &Cell| Some((cell.workload.sessions() as f64, cell.summary("server_cpu_us_per_answer")?));
        cells.filter_map(point).collect()
    };
    let lines = (0..report.contenders.len()).map(|number| (number, points(number)));
    let lines: Vec<_> = lines.filter(|(_, points)| !points.is_empty()).collect();
    let names: Vec<_> = lines.iter().map(|(number, _)| (*number, name(report, *number))).collect();
    let mut sessions: Vec<_> = lines.iter().flat_map(|(_, points)| points).map(|(x, _)| *x).collect();
    sessions.sort_by(f64::total_cmp);
    sessions.dedup();
    let across = Axis { steps: sessions, beyond: 1.3, show: thousands };
    let name = "sessions, one of them active".to_owned();
    curves::draw(title, &names, &[Panel { name, across, upwards: times(&lines, LONGEST), lines }])
}

/// An axis around all values up to `top` (microseconds), with the powers of ten; with few of them, also with steps between.
fn times(lines: &[(usize, Vec<(f64, Summary)>)], top: f64) -> Axis {
    let values = || lines.iter().flat_map(|(_, points)| points).map(|(_, value)| value);
    let least = values().map(|value| value.least).fold(top, f64::min);
    let greatest = values().map(|value| value.greatest).fold(0.0, f64::max).min(top);
    let digits: &[f64] = if greatest < 1000.0 * least { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let steps = (0..10).flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
    let mut steps: Vec<_> = steps.collect();
    let end = steps.iter().skip(1).position(|step| *step >= greatest).map_or(steps.len(), |place| place + 2);
    let start = steps[..end - 1].iter().rposition(|step| *step <= least).unwrap_or_default();
    Axis { steps: steps.drain(start..end).collect(), beyond: 1.0, show: microseconds }
}

fn memory(report: &Report, title: &str) -> String {
    let (_, parts) = MEMORY.split_last().expect("the last one is the sum");
    let row = |cell: &Cell| {
        let part = |key: &str| cell.summary(key).map(|value| value.median.max(0.0));
        let process = format!("process {}", bytes(part(parts[0].key)?));
        // The kernel's parts are known from a thousand sessions on.
        let parts: Vec<_> = parts.iter().map(|figure| part(figure.key).unwrap_or(0.0)).collect();
        let sum = if parts[3] > 0.0 { format!("{}, ", bytes(parts.iter().sum())) } else { String::new() };
        Some((format!("{}: {sum}{process}", name(report, cell.contender)), parts))
    };
    let cells = fullest(report).filter(|cell| cell.failure.is_none());
    let names: Vec<_> = parts.iter().map(|figure| figure.title).collect();
    curves::bars(title, &names, &cells.filter_map(row).collect::<Vec<_>>())
}

/// A bar for each server, and for each number of speakers in a chat.
fn bars(report: &Report, title: &str, kind: Kind, key: &str) -> String {
    let row = |cell: &Cell| {
        let median = cell.summary(key)?.median;
        let speakers = cell.workload.talk.map(|talk| talk.speakers);
        let speakers =
            speakers.map(|speakers| format!(", {}", many(speakers, "speaker"))).unwrap_or_default();
        let label = format!("{}{speakers}: {}", name(report, cell.contender), microseconds(median));
        Some((label, vec![median]))
    };
    // Without the chat whose lines are long.
    let cells = measured(report, kind).filter(|cell| cell.workload.least_lines == 0);
    curves::bars(title, &[title], &cells.filter_map(row).collect::<Vec<_>>())
}

fn rates(report: &Report, title: &str) -> String {
    let sweeps = report.sweeps.iter().enumerate();
    let swept = sweeps.filter_map(|(number, sweep)| Some((number, sweep.as_ref()?.as_ref().ok()?)));
    let swept: Vec<(usize, &Sweep)> = swept.collect();
    let label = |number, sweep: &Sweep| format!("{}, knee: {}", name(report, number), knee(sweep.knee));
    let names: Vec<_> = swept.iter().map(|(number, sweep)| (*number, label(*number, sweep))).collect();
    let last =
        swept.iter().flat_map(|(_, sweep)| points(sweep)).map(|point| point.rate).fold(FIRST, f64::max);
    let panels = [("p50", 0.5), ("p99", 0.99)].map(|(name, quantile)| {
        let at = |point: &Point| Some((point.rate, Summary::of(vec![point.latency(quantile)])?));
        let line = |&(number, sweep): &(usize, _)| (number, points(sweep).filter_map(at).collect());
        let lines: Vec<_> = swept.iter().map(line).collect();
        let steps = steps(FIRST, 2.0, last * 1.99);
        let across = Axis { steps, beyond: 1.2, show: thousands };
        let name = format!("{name}, against the lines a second that were offered");
        Panel { name, across, upwards: times(&lines, TOP), lines }
    });
    curves::draw(title, &names, &panels)
}

/// The rates of the climb that were held, the knee, and the first rate of the climb that the server missed. Where the load
/// was late, nothing is known. Without the other rates of the search: they would hide the lines of other servers.
fn points(sweep: &Sweep) -> impl Iterator<Item = &Point> {
    let is_knee = |point: &Point| Some(point.rate) == sweep.knee.rate;
    let held = sweep.points.iter().filter(move |point| {
        is_knee(point) || point.is_of_climb && point.is_held() && Some(point.rate) < sweep.knee.rate
    });
    let above = |point: &&Point| point.is_of_climb && Some(point.rate) > sweep.knee.rate;
    let missed = sweep.points.iter().filter(above).find(|point| !point.is_held());
    held.chain(missed.filter(|point| point.count(Verdict::LoadWasLate) < point.count(Verdict::Missed)))
}

/// The cells of a workload that have figures.
fn measured(report: &Report, kind: Kind) -> impl Iterator<Item = &Cell> {
    report.cells.iter().filter(move |cell| cell.workload.kind == kind && cell.failure.is_none())
}

fn name(report: &Report, contender: usize) -> String {
    shortened(&report.contenders[contender].name)
}
