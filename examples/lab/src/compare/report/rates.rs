//! The open loop: latency against the offered rate, up to each server's knee.

use std::error::Error;

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Report;
use super::curves::{Axis, Line, Panel, draw_panel, steps};
use super::picture::Chart;
use super::sections::{Group, Row, Section};
use super::theme::{Area, ROW, colour, dashes, mark, nothing, picture, shortened, text};
use crate::compare::figures::Figure;
use crate::compare::rounds::Summary;
use crate::compare::search::{Knee, Point, Sweep, Verdict};
use crate::support::candidates::Candidate;
use crate::support::failure::Failure;
use crate::support::words::thousands;

/// The height of one of the two panels.
const PANEL: i32 = 250;
/// The picture ends there (microseconds). Above, the latency is only that of a queue that grows.
const TOP: f64 = 100_000.0;

/// The rates at which the table compares latencies (lines a second): rates of every sweep.
const COMPARED: [f64; 2] = [16_000.0, 64_000.0];
const OPEN_LOOP_SENTENCE: &str = "sessions send lines by the clock, as a Poisson process (open loop). A session does \
    not wait for answers, and a latency counts from when its line was due. Knee: the rate at which half of the slices are \
    held; a slice is held if half of its lines are answered within 1 ms. The servers take turns slice by slice, so their \
    shares are repeatable where the machine's speed is not. p50 and p99: medians of the slices at this rate. The load has one processor for itself, the servers have the \
    others. n/a: not held.";
const LATE_SENTENCE: &str = "\u{2265}: in most slices that were not held, the load sent half of the lines more than 250 µs late, so \
    the server may hold more.";

/// Marks a knee that the load set.
const AT_LEAST: &str = "\u{2265} ";

/// The picture.
pub fn chart(report: &Report) -> Chart {
    let title = "Latency against the offered rate";
    let swept: Vec<_> = swept(report).collect();
    let legend = i32::try_from(swept.len() + 1).unwrap_or(0) * ROW + ROW / 2;
    let svg = picture(title, legend + 2 * PANEL, |root| {
        if swept.is_empty() {
            return nothing(root);
        }
        let (top, panels) = root.split_vertically(legend);
        draw_legend(&top, &swept)?;
        let panels = panels.split_evenly((2, 1));
        draw_panel(&panels[0], &panel(&swept, "p50", 0.5), ROW)?;
        draw_panel(&panels[1], &panel(&swept, "p99", 0.99), ROW)?;
        Ok(())
    });
    Chart {
        name: "rates",
        title,
        sentence: "Open loop: lines come by the clock, whether or not earlier ones were answered. A server's latency \
            stays low up to its knee, and where its line turns upwards it is overloaded.",
        svg,
    }
}

/// The knee of each server, and its latency at the same rates.
pub fn section(report: &Report) -> Section {
    let latency = |sweep: &Sweep, rate: f64, quantile: f64| {
        let held = sweep.points.iter().find(|point| point.is_held() && (point.rate - rate).abs() < 1.0);
        held.map_or("n/a".to_owned(), |point| Figure::Median.show(point.latency(quantile)))
    };
    let share = |sweep: &Sweep| {
        let mark = if sweep.knee.is_limit_of_load { AT_LEAST } else { "" };
        report.knee_of_first(sweep).map_or("n/a".to_owned(), |share| format!("{mark}{:.0} %", 100.0 * share))
    };
    let figures = |sweep: &Sweep| {
        let latencies =
            COMPARED.iter().flat_map(|&rate| [0.5, 0.99].map(|quantile| latency(sweep, rate, quantile)));
        [knee(sweep.knee), share(sweep)].into_iter().chain(latencies).collect()
    };
    let row = |(contender, sweep): (&Candidate, &Option<Result<Sweep, Failure>>)| {
        let figures = sweep.as_ref()?.as_ref().map(figures).map_err(ToString::to_string);
        Some(Row { server: contender.name.clone(), figures })
    };
    let rows: Vec<_> = report.contenders.iter().zip(&report.sweeps).filter_map(row).collect();
    let heads = COMPARED
        .iter()
        .flat_map(|rate| ["p50", "p99"].map(|quantile| format!("{quantile}, {}k/s", rate / 1e3)));
    let of_first = report
        .contenders
        .first()
        .map_or("share".to_owned(), |first| format!("of {}", shortened(&first.name)));
    let is_limited = report.sweeps.iter().flatten().flatten().any(|sweep| sweep.knee.is_limit_of_load);
    Section {
        title: "Lines by the clock: the knee".to_owned(),
        sentence: format!("{} {OPEN_LOOP_SENTENCE}", thousands(report.swept_sessions() as f64)),
        head: ["server".to_owned(), "knee (lines/s)".to_owned(), of_first].into_iter().chain(heads).collect(),
        groups: if rows.is_empty() { Vec::new() } else { vec![Group { heading: None, rows }] },
        below: is_limited.then(|| LATE_SENTENCE.to_owned()),
    }
}

/// The sweeps that there are, each with its contender and its number.
fn swept(report: &Report) -> impl Iterator<Item = (usize, &Candidate, &Sweep)> {
    let swept = report.contenders.iter().zip(&report.sweeps).enumerate();
    swept.filter_map(|(number, (contender, sweep))| Some((number, contender, sweep.as_ref()?.as_ref().ok()?)))
}

/// A knee as text: `≥` marks one that the load set.
fn knee(knee: Knee) -> String {
    let Some(rate) = knee.rate else { return "none".to_owned() };
    // Two steps of the search are 4 % apart: a fourth digit would say nothing.
    let digits = 10_f64.powf(rate.log10().floor() - 2.0);
    let mark = if knee.is_limit_of_load { AT_LEAST } else { "" };
    format!("{mark}{}", thousands((rate / digits).round() * digits))
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
        upwards: Axis {
            name,
            range: low..TOP,
            steps: steps(low, 10.0, TOP),
            show: &|latency| Figure::Median.show(latency),
        },
        lines: swept.iter().map(line).collect(),
    }
}

fn draw_legend(area: &Area<'_>, swept: &[(usize, &Candidate, &Sweep)]) -> Result<(), Box<dyn Error>> {
    let style = || text().pos(Pos::new(HPos::Left, VPos::Center));
    area.draw_text("The knee, in lines a second:", &style(), (16, ROW / 2 + 6))?;
    for (row, (number, contender, sweep)) in swept.iter().enumerate() {
        let (left, middle) = (16, i32::try_from(row + 1)? * ROW + ROW / 2 + 6);
        let ends = [(left, middle), (left + 36, middle)];
        let (stroke, gap) = dashes(*number);
        area.draw(&DashedPathElement::new(ends, stroke, gap, colour(*number).stroke_width(2)))?;
        area.draw(&(EmptyElement::at((left + 18, middle)) + mark(*number)))?;
        let label = format!("{}: {}", shortened(&contender.name), knee(sweep.knee));
        area.draw_text(&label, &style(), (left + 46, middle))?;
    }
    Ok(())
}
