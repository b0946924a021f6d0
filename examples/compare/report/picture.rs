//! Which pictures there are, and what is in them: figures against the number of sessions, a line for each server; a bar
//! for each, and how long typists wait beside a firehose. How they are drawn is in `curves`, `bars` and `spans`.

use super::Report;
use super::bars::{self, Bar};
use super::curves::{self, Line, Plot, Scale};
use super::spans::{self, Span};
use super::theme::shortened;
use crate::contender::Contender;
use crate::figures::Figure;
use crate::rounds::Cell;
use crate::workload::Kind;

/// Memory grows by whole pages, mostly of this size: a growth of less is none.
const PAGE: f64 = 4096.0;

/// A picture that is ready to be shown.
pub struct Chart {
    /// What its file is called, and where the page links to.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What it shows, in a sentence.
    pub sentence: &'static str,
    /// The picture itself.
    pub svg: String,
}

/// What a picture of lines is to show.
struct Plan {
    name: &'static str,
    title: &'static str,
    sentence: &'static str,
    scale: Scale,
    figure: Figure,
}

const PLANS: [Plan; 6] = [
    Plan {
        name: "memory",
        title: "Memory for each idle session",
        sentence: "What the server's memory grows by for a session in which nothing happens, and so what decides how many \
            sessions a machine can hold. Lower is better. With few sessions the first pages of memory weigh most; where the \
            memory did not grow by a page there is no point, because less cannot be seen.",
        scale: Scale::Logarithmic(16.0),
        figure: Figure::MemoryPerSession,
    },
    Plan {
        name: "answers",
        title: "Answers a second",
        sentence: "How much is answered while the same few type and ever more sessions idle beside them. Higher is better; \
            the load is a single thread too, and may be what sets the limit (\u{2265} in the table).",
        scale: Scale::Linear,
        figure: Figure::AnswersPerSecond,
    },
    Plan {
        name: "latency",
        title: "Latency of an answer: p50",
        sentence: "How long a typist waits, half of the time. All who type do so at once, so where the load is saturated \
            this is a queue: about the number of those who type, divided by the answers a second. It rises with that number, \
            and should stay where it is when only idle sessions are added.",
        scale: Scale::Logarithmic(10.0),
        figure: Figure::Median,
    },
    Plan {
        name: "latency-p99",
        title: "Latency of an answer: p99",
        sentence: "How long a typist waits at worst but for one answer in a hundred. The same queue, and whoever was served \
            last in it.",
        scale: Scale::Logarithmic(10.0),
        figure: Figure::P99,
    },
    Plan {
        name: "cpu",
        title: "Processor time for an answer",
        sentence: "What an answer costs the server, the kernel's work on its behalf included. Lower is better, and a flat \
            line means that idle sessions cost no time.",
        scale: Scale::Linear,
        figure: Figure::ProcessorPerAnswer,
    },
    Plan {
        name: "opening",
        title: "Until everybody is connected",
        sentence: "From the first connect to the last banner, with few connections being made at a time: what it costs to \
            let somebody in, be it an entry in a table or a new thread. Lower is better.",
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
    PLANS.iter().map(chart).chain([churn(report), bulk(report), fairness(report)]).collect()
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

/// The cells of a workload that have figures to be shown.
fn measured(report: &Report, kind: Kind) -> impl Iterator<Item = &Cell> {
    report.cells.iter().filter(move |cell| cell.workload.kind == kind && cell.failure.is_none())
}

fn churn(report: &Report) -> Chart {
    let title = "Processor time for a visit";
    Chart {
        name: "churn",
        title,
        sentence: "What it costs the server when somebody connects, reads the banner, types one line, takes the answer and \
            leaves. Lower is better.",
        svg: bars_of(report, title, Kind::Churn, Figure::ProcessorPerAnswer),
    }
}

fn bulk(report: &Report) -> Chart {
    let title = "Processor time for a megabyte";
    Chart {
        name: "bulk",
        title,
        sentence: "One session at full speed. Lower is better. It tells how many answers go out in one write: okloop \
            gathers them, the two other servers of this project write each by itself.",
        svg: bars_of(report, title, Kind::Bulk, Figure::ProcessorPerMegabyte),
    }
}

fn bars_of(report: &Report, title: &str, kind: Kind, figure: Figure) -> String {
    let bar = |cell: &Cell| {
        let value = cell.summary(figure)?;
        let name = shortened(&report.contenders[cell.contender].name);
        let label = format!("{name}: {}", figure.show(value.median));
        Some(Bar { label, colour: cell.contender, length: value.median })
    };
    let bars: Vec<_> = measured(report, kind).filter_map(bar).collect();
    bars::draw(title, &bars)
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
    let title = "Typing beside a firehose";
    Chart {
        name: "fairness",
        title,
        sentence: "How long people who type wait (p50, p99 and the longest) while one session streams at full speed. Threads \
            are shared out by the kernel; a loop must see to it itself that one busy session does not keep all others waiting.",
        svg: spans::draw(title, &spans, &|number| Figure::Median.show(number)),
    }
}
