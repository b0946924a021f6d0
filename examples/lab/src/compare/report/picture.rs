//! Which pictures there are, and what they show. How they are drawn is in `curves` and `rows`.

use super::Report;
use super::curves::{self, Axis, Line, Panel, steps};
use super::rates;
use super::rows::{self, Row};
use super::sections::{MEMORY, fullest};
use super::theme::shortened;
use crate::compare::figures::Figure;
use crate::compare::rounds::Cell;
use crate::compare::workload::Kind;
use crate::support::words::thousands;

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
pub fn charts(report: &Report) -> Vec<Chart> {
    vec![cpu(report), memory(report), rates::chart(report), fairness(report), bulk(report), churn(report)]
}

fn cpu(report: &Report) -> Chart {
    let title = "Processor time for an answer";
    let points = |contender: usize| {
        let cells = measured(report, Kind::Typing).filter(|cell| cell.contender == contender);
        let point =
            |cell: &Cell| Some((cell.workload.sessions() as f64, cell.summary(Figure::ProcessorPerAnswer)?));
        cells.filter_map(point).collect::<Vec<_>>()
    };
    let lines = (0..report.contenders.len()).map(|number| Line { number, points: points(number) });
    let lines: Vec<_> = lines.filter(|line| !line.points.is_empty()).collect();
    let names: Vec<_> = lines.iter().map(|line| report.contenders[line.number].name.clone()).collect();
    let mut sessions: Vec<_> =
        lines.iter().flat_map(|line| &line.points).map(|(sessions, _)| *sessions).collect();
    sessions.sort_by(f64::total_cmp);
    sessions.dedup();
    let (first, last) = (sessions.first().copied().unwrap_or(1.0), sessions.last().copied().unwrap_or(1.0));
    let figures = || lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
    let low = figures().map(|value| value.least).fold(f64::INFINITY, f64::min) / 2.0;
    let high = figures().map(|value| value.greatest).fold(0.0, f64::max) * 1.3;
    let decade = 10_f64.powf(low.max(0.1).log10().floor());
    // With one decade alone, the numbers at the axis would be too few.
    let upwards: Vec<_> =
        [1.0, 2.0, 5.0].iter().flat_map(|digit| steps(decade * digit, 10.0, high)).collect();
    let panel = Panel {
        across: Axis {
            name: "sessions, one of them active",
            range: first / 1.3..last * 1.3,
            steps: sessions,
            show: &thousands,
        },
        upwards: Axis { name: "", range: low..high, steps: upwards, show: &short },
        lines,
    };
    Chart {
        name: "cpu",
        title,
        sentence: "One client types and all others are idle: poll(2) looks at every socket for each answer, so its line \
            rises; with epoll or threads idle sessions cost no time, and the line is flat.",
        svg: curves::draw(title, &panel, &names),
    }
}

/// A number of microseconds that has one digit before its zeros.
fn short(number: f64) -> String {
    if number < 1000.0 { format!("{number} \u{b5}s") } else { format!("{} ms", number / 1000.0) }
}

fn memory(report: &Report) -> Chart {
    let title = "Memory of an idle session";
    let row = |cell: &Cell| {
        let part = |figure: Figure| cell.summary(figure).map(|value| value.median.max(0.0));
        let show = |number: f64| Figure::MemoryPerSession.show(number);
        let process = format!("process {}", show(part(Figure::MemoryPerSession)?));
        // The kernel's parts are known from a thousand sessions on.
        let sum = MEMORY.into_iter().map(part).sum::<Option<f64>>();
        let sum = sum.map(|sum| format!("{}, ", show(sum))).unwrap_or_default();
        let label = format!("{}: {sum}{process}", name(report, cell));
        let parts = MEMORY.map(|figure| part(figure).unwrap_or(0.0)).into();
        Some(Row { label, figures: parts })
    };
    let cells = fullest(report).filter(|cell| cell.failure.is_none());
    let rows: Vec<_> = cells.filter_map(row).collect();
    Chart {
        name: "memory",
        title,
        sentence: "A thread keeps a stack in the process and one in the kernel; a loop keeps an entry in a table, and \
            most of its bar is the socket, which every server has.",
        svg: rows::bars(title, &MEMORY.map(Figure::title), &rows),
    }
}

fn bulk(report: &Report) -> Chart {
    let title = "Processor time for a megabyte";
    Chart {
        name: "bulk",
        title,
        sentence: "One session streams: servers that send many answers with one write need a fraction of the time, \
            with threads as with loops.",
        svg: bars(report, title, Kind::Bulk, Figure::ProcessorPerMegabyte),
    }
}

fn churn(report: &Report) -> Chart {
    let title = "Processor time for a visit";
    Chart {
        name: "churn",
        title,
        sentence: "Clients connect, send one line and leave: what a new session costs, an entry in a table or a thread.",
        svg: bars(report, title, Kind::Churn, Figure::ProcessorPerAnswer),
    }
}

fn bars(report: &Report, title: &str, kind: Kind, figure: Figure) -> String {
    let row = |cell: &Cell| {
        let summary = cell.summary(figure)?;
        let label = format!("{}: {}", name(report, cell), figure.show(summary.median));
        Some(Row { label, figures: vec![summary.median] })
    };
    let rows: Vec<_> = measured(report, kind).filter_map(row).collect();
    rows::bars(title, &[figure.title()], &rows)
}

fn fairness(report: &Report) -> Chart {
    let title = "Answers beside a flood";
    let waiting = [Figure::Median, Figure::P99, Figure::Slowest];
    let row = |cell: &Cell| {
        let figures = waiting.map(|figure| Some(cell.summary(figure)?.median));
        let figures: Vec<f64> = figures.into_iter().collect::<Option<_>>()?;
        let texts = waiting.iter().zip(&figures).map(|(figure, number)| figure.show(*number));
        let label = format!("{}: {}", name(report, cell), texts.collect::<Vec<_>>().join(", "));
        Some(Row { label, figures })
    };
    let rows: Vec<_> = measured(report, Kind::Fairness).filter_map(row).collect();
    Chart {
        name: "fairness",
        title,
        sentence: "How long active clients wait while one session streams at full speed: marks far to the right mean \
            that the flood starves them.",
        svg: rows::marks(title, &waiting.map(Figure::title), &rows, &|number| Figure::Median.show(number)),
    }
}

/// The cells of a workload that have figures.
fn measured(report: &Report, kind: Kind) -> impl Iterator<Item = &Cell> {
    report.cells.iter().filter(move |cell| cell.workload.kind == kind && cell.failure.is_none())
}

fn name(report: &Report, cell: &Cell) -> String {
    shortened(&report.contenders[cell.contender].name)
}
