//! Which pictures there are, and what they show. How they are drawn is in `curves` and `rows`.

use super::Report;
use super::curves::{Axis, Line, Panel, apart, steps};
use super::rows::{self, Row};
use super::sections::{MEMORY, fullest, knee};
use crate::compare::figures::Figure;
use crate::compare::rounds::{Cell, Summary};
use crate::compare::search::{Point, Sweep, Verdict};
use crate::compare::workload::{Kind, Role};
use crate::support::picture::{Picture, ROW, WIDTH, line_class, shortened};
use crate::support::{Candidate, microseconds, thousands};

/// The height of a picture with one panel, and of one of two panels.
const HEIGHT: f64 = 380.0;
const PANEL: f64 = 250.0;
/// The room for an axis: below, and at the left.
const LOWER: f64 = 2.0 * ROW;
const LEFT: f64 = 72.0;
/// The room for the names at the right.
const NAMES: f64 = 164.0;
/// The picture of the rates ends there (microseconds). Above, the latency is only that of a queue that grows.
const TOP: f64 = 100_000.0;

/// A picture that is ready to be shown.
pub struct Chart {
    /// The name of its file.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What to see in it, in a sentence.
    pub sentence: &'static str,
    /// The picture itself.
    pub svg: String,
}

impl Chart {
    /// The name and the text of its file.
    pub fn file(self) -> (String, String) {
        (format!("{}.svg", self.name), self.svg)
    }
}

/// All pictures. One for which nothing was measured says so.
pub fn all(report: &Report) -> Vec<Chart> {
    let chart = |name, title: &'static str, draw: fn(&Report, &str) -> String, sentence| Chart {
        name,
        title,
        sentence,
        svg: draw(report, title),
    };
    vec![
        chart(
            "cpu",
            "Processor time for an answer",
            cpu,
            "One client types and all others are idle: poll(2) looks at every socket for each answer, so its line rises; \
             with epoll or threads idle sessions cost no time, and the line is flat.",
        ),
        chart(
            "memory",
            "Memory of an idle session",
            memory,
            "A thread keeps a stack in the process and one in the kernel; a loop keeps an entry in a table, and most of its \
             bar is the socket, which every server has.",
        ),
        chart(
            "rates",
            "Latency against the offered rate",
            rates,
            "Open loop: lines come by the clock, whether or not earlier ones were answered. A server's latency stays low up \
             to its knee, and where its line turns upwards it is overloaded.",
        ),
        chart(
            "fairness",
            "Answers beside a flood",
            fairness,
            "How long active clients wait while one session streams at full speed: marks far to the right mean that the \
             flood starves them.",
        ),
        chart(
            "bulk",
            "Processor time for a megabyte",
            |report, title| bars(report, title, Kind::Bulk, Figure::PROCESSOR_PER_MEGABYTE),
            "One session streams: servers that send many answers with one write need a fraction of the time, with threads \
             as with loops.",
        ),
        chart(
            "churn",
            "Processor time for a visit",
            |report, title| bars(report, title, Kind::Churn, Figure::PROCESSOR_PER_ANSWER),
            "Clients connect, send one line and leave: what a new session costs, an entry in a table or a thread.",
        ),
        chart(
            "chat",
            "Processor time for a delivery in a chat",
            chat,
            "A line of one client goes to all others. With one speaker each delivery is a write. With several, a server that \
             gathers what is new for a client sends many lines with one write.",
        ),
    ]
}

fn cpu(report: &Report, title: &str) -> String {
    let points = |contender: usize| {
        let cells = measured(report, Kind::Typing).filter(move |cell| cell.contender == contender);
        cells.filter_map(|cell| {
            Some((cell.workload.sessions() as f64, cell.summary(Figure::PROCESSOR_PER_ANSWER)?))
        })
    };
    let lines = (0..report.contenders.len()).map(|number| Line { number, points: points(number).collect() });
    let lines: Vec<_> = lines.filter(|line| !line.points.is_empty()).collect();
    let mut picture = Picture::new(title, WIDTH, HEIGHT);
    let mut sessions: Vec<_> = lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).collect();
    sessions.sort_by(f64::total_cmp);
    sessions.dedup();
    let (Some(first), Some(last)) = (sessions.first().copied(), sessions.last().copied()) else {
        return picture.nothing();
    };
    let values = || lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
    let low = values().map(|value| value.least).fold(f64::INFINITY, f64::min) / 2.0;
    let high = values().map(|value| value.greatest).fold(0.0, f64::max) * 1.3;
    let decade = 10_f64.powf(low.max(0.1).log10().floor());
    // With one decade alone, the numbers at the axis would be too few.
    let upwards = [1.0, 2.0, 5.0].iter().flat_map(|digit| steps(decade * digit, 10.0, high));
    let panel = Panel {
        across: Axis {
            name: "sessions, one of them active",
            range: first / 1.3..last * 1.3,
            steps: sessions,
            show: &thousands,
        },
        upwards: Axis {
            name: "",
            steps: upwards.filter(|step| *step >= low).collect(),
            range: low..high,
            show: &short,
        },
        lines,
    };
    let (right, bottom) = (WIDTH - NAMES, HEIGHT - LOWER);
    let ends = panel.draw(&mut picture, (LEFT, ROW / 2.0), (right, bottom));
    // A name stands beside the end of its line, with a thin line to it where names would overlap.
    let heights = apart(&ends.iter().map(|(_, y)| *y).collect::<Vec<_>>(), ROW - 4.0, bottom);
    for (line, (end, height)) in panel.lines.iter().zip(ends.iter().zip(heights)) {
        let left = right + 16.0;
        let class = format!("thin dots c{}", line.number % 8);
        picture.line(&class, &[(end.0 + 7.0, end.1), (left - 2.0, height)]);
        picture.text((left, height), "start", &shortened(&report.contenders[line.number].name));
    }
    picture.svg()
}

/// A number of microseconds that has one digit before its zeros.
fn short(number: f64) -> String {
    if number < 1000.0 { format!("{number} \u{b5}s") } else { format!("{} ms", number / 1000.0) }
}

fn memory(report: &Report, title: &str) -> String {
    let row = |cell: &Cell| {
        let part = |figure: Figure| cell.summary(figure).map(|value| value.median.max(0.0));
        let show = |number: f64| Figure::MEMORY_PER_SESSION.show(number);
        let process = format!("process {}", show(part(Figure::MEMORY_PER_SESSION)?));
        // The kernel's parts are known from a thousand sessions on.
        let sum = MEMORY.into_iter().map(part).sum::<Option<f64>>();
        let sum = sum.map(|sum| format!("{}, ", show(sum))).unwrap_or_default();
        let label = format!("{}: {sum}{process}", name(report, cell));
        Some(Row { label, figures: MEMORY.map(|figure| part(figure).unwrap_or(0.0)).into() })
    };
    let cells = fullest(report).filter(|cell| cell.failure.is_none());
    rows::bars(title, &MEMORY.map(|figure| figure.title), &cells.filter_map(row).collect::<Vec<_>>())
}

fn bars(report: &Report, title: &str, kind: Kind, figure: Figure) -> String {
    let row = |cell: &Cell| {
        let summary = cell.summary(figure)?;
        let label = format!("{}: {}", name(report, cell), figure.show(summary.median));
        Some(Row { label, figures: vec![summary.median] })
    };
    rows::bars(title, &[figure.title], &measured(report, kind).filter_map(row).collect::<Vec<_>>())
}

fn fairness(report: &Report, title: &str) -> String {
    let waiting = [Figure::MEDIAN, Figure::P99, Figure::SLOWEST];
    let row = |cell: &Cell| {
        let figures: Vec<f64> =
            waiting.iter().map(|figure| Some(cell.summary(*figure)?.median)).collect::<Option<_>>()?;
        let texts: Vec<_> = figures.iter().map(|number| microseconds(*number)).collect();
        Some(Row { label: format!("{}: {}", name(report, cell), texts.join(", ")), figures })
    };
    let rows: Vec<_> = measured(report, Kind::Fairness).filter_map(row).collect();
    rows::marks(title, &waiting.map(|figure| figure.title), &rows, &microseconds)
}

fn chat(report: &Report, title: &str) -> String {
    // Without the load whose lines are long.
    let cells = || measured(report, Kind::Chat).filter(|cell| cell.workload.least_lines == 0);
    let figure = Figure::PROCESSOR_PER_DELIVERY;
    let of_several = |first: &Cell| {
        cells().find(|cell| cell.contender == first.contender && cell.workload != first.workload)
    };
    let is_of_one = |cell: &&Cell| cell.workload.count(Role::Active) == 1;
    let row = |cell: &Cell| {
        let figures = [cell, of_several(cell)?].map(|cell| Some(cell.summary(figure)?.median));
        let figures: Vec<f64> = figures.into_iter().collect::<Option<_>>()?;
        let texts: Vec<_> = figures.iter().map(|number| figure.show(*number)).collect();
        Some(Row { label: format!("{}: {}", name(report, cell), texts.join(", ")), figures })
    };
    let rows: Vec<_> = cells().filter(is_of_one).filter_map(row).collect();
    rows::marks(title, &["one speaker", "several speakers"], &rows, &microseconds)
}

fn rates(report: &Report, title: &str) -> String {
    let swept: Vec<_> = swept(report).collect();
    let legend = (swept.len() as f64 + 1.5) * ROW;
    let mut picture = Picture::new(title, WIDTH, legend + 2.0 * PANEL);
    if swept.is_empty() {
        return picture.nothing();
    }
    picture.text((16.0, ROW / 2.0 + 6.0), "start", "The knee, in lines a second:");
    for (row, (number, contender, sweep)) in swept.iter().enumerate() {
        let middle = (row as f64 + 1.5) * ROW + 6.0;
        picture.line(&line_class(*number), &[(16.0, middle), (52.0, middle)]);
        picture.mark(*number, (34.0, middle));
        let label = format!("{}: {}", shortened(&contender.name), knee(sweep.knee));
        picture.text((62.0, middle), "start", &label);
    }
    for (nth, (name, quantile)) in [("p50", 0.5), ("p99", 0.99)].into_iter().enumerate() {
        let top = legend + nth as f64 * PANEL;
        let corners = ((LEFT + ROW, top + ROW / 2.0), (WIDTH - ROW, top + PANEL - LOWER));
        panel(&swept, name, quantile).draw(&mut picture, corners.0, corners.1);
    }
    picture.svg()
}

/// The sweeps that there are, each with its contender and its number.
fn swept(report: &Report) -> impl Iterator<Item = (usize, &Candidate, &Sweep)> {
    let swept = report.contenders.iter().zip(&report.sweeps).enumerate();
    swept.filter_map(|(number, (contender, sweep))| Some((number, contender, sweep.as_ref()?.as_ref().ok()?)))
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

fn panel<'a>(swept: &[(usize, &Candidate, &Sweep)], name: &'a str, quantile: f64) -> Panel<'a> {
    let value = |point: &Point| point.latency(quantile);
    let line = |(number, _, sweep): &(usize, &Candidate, &Sweep)| {
        let at = |point: &Point| (point.rate, Summary::single(value(point)));
        Line { number: *number, points: points(sweep).map(at).collect() }
    };
    let all = || swept.iter().flat_map(|(_, _, sweep)| points(sweep));
    let (first, last) = all()
        .fold((f64::INFINITY, 1.0_f64), |(first, last), point| (first.min(point.rate), last.max(point.rate)));
    let shortest = all().map(value).fold(TOP, f64::min);
    let low = 10_f64.powf(shortest.max(1.0).log10().floor());
    Panel {
        across: Axis {
            name: "lines a second, offered",
            range: first / 1.2..last * 1.2,
            steps: steps(first, 4.0, last * 1.2),
            show: &thousands,
        },
        upwards: Axis { name, range: low..TOP, steps: steps(low, 10.0, TOP), show: &microseconds },
        lines: swept.iter().map(line).collect(),
    }
}

/// The cells of a workload that have figures.
fn measured(report: &Report, kind: Kind) -> impl Iterator<Item = &Cell> {
    report.cells.iter().filter(move |cell| cell.workload.kind == kind && cell.failure.is_none())
}

fn name(report: &Report, cell: &Cell) -> String {
    shortened(&report.contenders[cell.contender].name)
}
