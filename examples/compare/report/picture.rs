//! Which pictures there are, and what is in them: figures against the number of sessions, a line for each server, and
//! how long typists wait beside a firehose.
//! How they are drawn is in `curves` and `spans`.

use super::Report;
use super::curves::{self, Line, Plot, Scale, Stroke};
use super::spans::{self, Span};
use crate::figures::Figure;
use crate::rounds::Cell;
use crate::workload::Kind;

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

/// What a picture is to show.
struct Plan {
    name: &'static str,
    title: &'static str,
    sentence: &'static str,
    scale: Scale,
    /// The figures, each with its stroke, and what a stroke means if there are several.
    figures: &'static [(Figure, Stroke)],
    strokes: &'static [(Stroke, &'static str)],
}

const PLANS: [Plan; 5] = [
    Plan {
        name: "memory",
        title: "Memory for each idle session",
        sentence: "What the server's memory grows by for a session in which nothing happens, and so what decides how many \
            sessions a machine can hold. Lower is better. With few sessions the first pages of memory weigh most, and no growth at all is \
            drawn at the lower edge.",
        scale: Scale::Logarithmic(16.0),
        figures: &[(Figure::MemoryPerSession, Stroke::Whole)],
        strokes: &[],
    },
    Plan {
        name: "latency",
        title: "Latency of an answer",
        sentence: "How long a typist waits, half of the time (p50) and at worst but for one answer in a hundred (p99). It \
            rises while the number of those who type grows, and should stay where it is when only idle sessions are added.",
        scale: Scale::Logarithmic(10.0),
        figures: &[(Figure::Median, Stroke::Whole), (Figure::P99, Stroke::Dashed)],
        strokes: &[(Stroke::Whole, "p50"), (Stroke::Dashed, "p99")],
    },
    Plan {
        name: "answers",
        title: "Answers a second",
        sentence: "How much is answered while the same few type and ever more sessions idle beside them. Higher is better; \
            the load is a single thread too, and may be what sets the limit.",
        scale: Scale::Linear,
        figures: &[(Figure::AnswersPerSecond, Stroke::Whole)],
        strokes: &[],
    },
    Plan {
        name: "cpu",
        title: "Processor time for an answer",
        sentence: "What an answer costs the server, the kernel's work on its behalf included. Lower is better, and a flat \
            line means that idle sessions cost no time.",
        scale: Scale::Linear,
        figures: &[(Figure::ProcessorPerAnswer, Stroke::Whole)],
        strokes: &[],
    },
    Plan {
        name: "opening",
        title: "Until everybody is connected",
        sentence: "From the first connect to the last banner, with few connections being made at a time: what it costs to \
            let somebody in, be it an entry in a table or a new thread. Lower is better.",
        scale: Scale::Logarithmic(10.0),
        figures: &[(Figure::Opening, Stroke::Whole)],
        strokes: &[],
    },
];

/// All pictures. One for which nothing was measured says so.
pub fn charts(report: &Report) -> Vec<Chart> {
    let chart = |plan: &Plan| {
        let svg = curves::draw(&Plot {
            title: plan.title,
            scale: plan.scale,
            lines: lines(report, plan),
            strokes: plan.strokes.to_vec(),
            show: &|number| plan.figures[0].0.show(number),
        });
        Chart { name: plan.name, title: plan.title, sentence: plan.sentence, svg }
    };
    PLANS.iter().map(chart).chain([fairness(report)]).collect()
}

fn lines<'a>(report: &'a Report, plan: &Plan) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for (colour, contender) in report.contenders.iter().enumerate() {
        let cells = report.cells.iter().filter(|cell| {
            cell.contender == colour && cell.workload.kind == Kind::PingPong && cell.failure.is_none()
        });
        for &(figure, stroke) in plan.figures {
            let point = |cell: &Cell| Some((cell.workload.sessions() as f64, cell.summary(figure)?));
            let points: Vec<_> = cells.clone().filter_map(point).collect();
            if !points.is_empty() {
                lines.push(Line { name: &contender.name, colour, stroke, points });
            }
        }
    }
    lines
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
        let label =
            format!("{}: {}", report.contenders[cell.contender].name, texts.collect::<Vec<_>>().join(", "));
        Span { label, colour: cell.contender, figures }
    };
    let cells =
        report.cells.iter().filter(|cell| cell.workload.kind == Kind::Fairness && cell.failure.is_none());
    let spans: Vec<_> = cells.map(span).filter(|span| !span.figures.is_empty()).collect();
    let title = "Typing beside a firehose";
    Chart {
        name: "fairness",
        title,
        sentence: "How long people who type wait (p50, p99 and the longest) while one session streams at full speed. Threads \
            are shared out by the kernel; a loop must see to it itself that one busy session does not keep all others waiting.",
        svg: spans::draw(title, &spans, &|number| Figure::Median.show(number)),
    }
}
