//! Which pictures there are, and what they show. How they are drawn is in `curves` and `spans`.

use super::Report;
use super::curves::{self, Line, Plot, Scale};
use super::rates;
use super::spans::{self, Span};
use super::theme::shortened;
use crate::compare::contender::Contender;
use crate::compare::figures::Figure;
use crate::compare::rounds::Cell;
use crate::compare::workload::Kind;

/// Memory grows by whole pages of this size (bytes): less cannot be seen.
const PAGE: f64 = 4096.0;

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

/// What a picture of lines shows.
struct Plan {
    name: &'static str,
    title: &'static str,
    sentence: &'static str,
    scale: Scale,
    figure: Figure,
}

const PLANS: [Plan; 4] = [
    Plan {
        name: "memory",
        title: "Memory for each idle session",
        sentence: "How much the server's memory grows for a session in which nothing happens: lower is better, and it \
            decides how many sessions fit on a machine.",
        scale: Scale::Logarithmic(16.0),
        figure: Figure::MemoryPerSession,
    },
    Plan {
        name: "cpu",
        title: "Processor time for an answer",
        sentence: "What one answer costs the server, the kernel's work included: lower is better, and a flat line means \
            that idle sessions cost no time.",
        scale: Scale::Linear,
        figure: Figure::ProcessorPerAnswer,
    },
    Plan {
        name: "latency",
        title: "Latency of an answer: p99",
        sentence: "How long 99 of 100 answers took at most: it rises with the number of active clients, and should not \
            rise when only idle sessions are added.",
        scale: Scale::Logarithmic(10.0),
        figure: Figure::P99,
    },
    Plan {
        name: "opening",
        title: "Time until all sessions are open",
        sentence: "From the first connect to the last banner, few connections at a time: lower is better, and it shows \
            what a new session costs, an entry in a table or a thread.",
        scale: Scale::Logarithmic(10.0),
        figure: Figure::Opening,
    },
];

/// All pictures. One for which nothing was measured says so.
pub fn charts(report: &Report) -> Vec<Chart> {
    let chart = |plan: &Plan| {
        let svg = curves::draw(&Plot {
            title: plan.title,
            scale: plan.scale,
            lines: lines(report, plan.figure),
            show: &|number| plan.figure.show(number),
        });
        Chart { name: plan.name, title: plan.title, sentence: plan.sentence, svg }
    };
    PLANS.iter().map(chart).chain([fairness(report), rates::chart(report)]).collect()
}

fn lines<'a>(report: &'a Report, figure: Figure) -> Vec<Line<'a>> {
    let line = |(colour, contender): (usize, &'a Contender)| {
        let point = |cell: &Cell| Some((cell.workload.sessions() as f64, cell.summary(figure)?));
        let cells = measured(report, Kind::PingPong).filter(|cell| cell.contender == colour);
        let mut points: Vec<_> = cells.filter_map(point).collect();
        if points.is_empty() {
            return None;
        }
        points.retain(|(sessions, value)| {
            figure != Figure::MemoryPerSession || value.median * sessions >= PAGE
        });
        Some(Line { name: &contender.name, colour, points })
    };
    report.contenders.iter().enumerate().filter_map(line).collect()
}

/// The cells of a workload that have figures.
fn measured(report: &Report, kind: Kind) -> impl Iterator<Item = &Cell> {
    report.cells.iter().filter(move |cell| cell.workload.kind == kind && cell.failure.is_none())
}

fn fairness(report: &Report) -> Chart {
    let waiting = [Figure::Median, Figure::P99, Figure::Slowest];
    let span = |cell: &Cell| {
        let figures: Vec<_> =
            waiting.iter().filter_map(|figure| Some(cell.summary(*figure)?.median)).collect();
        let texts = waiting
            .iter()
            .zip(&figures)
            .map(|(figure, number)| format!("{} {}", figure.title(), figure.show(*number)));
        let name = shortened(&report.contenders[cell.contender].name);
        let label = format!("{name}: {}", texts.collect::<Vec<_>>().join(", "));
        Span { label, colour: cell.contender, figures }
    };
    let spans: Vec<_> =
        measured(report, Kind::Fairness).map(span).filter(|span| !span.figures.is_empty()).collect();
    let title = "Answers beside a flood";
    Chart {
        name: "fairness",
        title,
        sentence: "How long active clients wait (p50, p99 and the longest) while one session streams at full speed: a \
            figure far to the right means that the flood starves them.",
        svg: spans::draw(title, &spans, &|number| Figure::Median.show(number)),
    }
}
