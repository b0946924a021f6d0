//! The picture of the open loop: latency against the offered rate, up to each server's knee.

use std::error::Error;

use hdrhistogram::Histogram;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Report;
use super::picture::Chart;
use super::theme::{Area, Drawn, ROW, SIZE, colour, grid, nothing, picture_of, shortened, text, width_of};
use crate::compare::figures::{Figure, in_microseconds, thousands};
use crate::compare::sweep::{Knee, LIMIT, Point, Sweep, Verdict};

/// The height of one of the two panels.
const PANEL: u32 = 280;
/// The width that an entry of the legend needs beside its text: its line and the gaps.
const MARK: i32 = 68;
/// How long the strokes of a server's line are, and the gaps; the first is a solid line. Together with the marks, they
/// tell the lines apart without colours.
const DASHES: [(i32, i32); 4] = [(10_000, 1), (9, 4), (3, 4), (14, 7)];
/// The picture ends there (microseconds). Above, the latency is only that of a queue that grows.
const TOP: f64 = 100_000.0;

/// A server's line.
struct Line<'a> {
    label: String,
    number: usize,
    points: Vec<&'a Point>,
}

/// The picture.
pub fn chart(report: &Report) -> Chart {
    let title = "Latency against the offered rate";
    let swept = report.contenders.iter().zip(&report.sweeps).enumerate();
    let lines = swept.filter_map(|(number, (contender, sweep))| {
        Some(Line::of(&contender.name, number, sweep.as_ref()?.as_ref().ok()?))
    });
    let lines: Vec<_> = lines.collect();
    let legend = i32::try_from(rows(&lines)).unwrap_or(1) * ROW + ROW / 2;
    let size = (SIZE.0, 2 * PANEL + legend.unsigned_abs());
    Chart {
        name: "rates",
        title,
        sentence: "Lines come by the clock, whether or not earlier ones were answered: each server's latency stays low up \
            to its knee, and where its line turns upwards it is overloaded.",
        svg: picture_of(size, title, |root| draw(root, &lines, legend)),
    }
}

/// A knee as text: `≥` marks one that the load set.
pub fn knee(knee: Knee) -> String {
    let Some(rate) = knee.rate() else { return "none".to_owned() };
    // Two steps of the search are 4 % apart: a fourth digit would say nothing.
    let digits = 10_f64.powf(rate.log10().floor() - 2.0);
    let mark = if knee.is_limit_of_load { "\u{2265} " } else { "" };
    format!("{mark}{}", thousands((rate / digits).round() * digits))
}

impl<'a> Line<'a> {
    /// The rates that were held, and the first one that the server missed. Where the load was late, nothing is known.
    fn of(name: &str, number: usize, sweep: &'a Sweep) -> Self {
        let held = sweep.points.iter().filter(|point| point.verdict == Verdict::Held);
        let missed = sweep.points.iter().find(|point| point.verdict != Verdict::Held);
        let missed = missed.filter(|point| point.verdict == Verdict::Missed);
        let label = format!("{}: {}/s", shortened(name), knee(sweep.knee));
        Self { label, number, points: held.chain(missed).collect() }
    }
}

fn draw(root: &Area<'_>, lines: &[Line<'_>], legend: i32) -> Drawn {
    if lines.iter().all(|line| line.points.is_empty()) {
        return nothing(root);
    }
    let (top, panels) = root.split_vertically(legend);
    draw_legend(&top, lines)?;
    let panels = panels.split_evenly((2, 1));
    draw_panel(&panels[0], "p50", 0.5, lines)?;
    draw_panel(&panels[1], "p99", 0.99, lines)
}

/// How many rows the legend needs: two columns, if the labels are short.
fn rows(lines: &[Line<'_>]) -> usize {
    lines.len().div_ceil(columns(lines))
}

fn columns(lines: &[Line<'_>]) -> usize {
    let half = SIZE.0.cast_signed() / 2;
    if lines.iter().all(|line| MARK + width_of(&line.label) <= half) { 2 } else { 1 }
}

fn draw_legend(area: &Area<'_>, lines: &[Line<'_>]) -> Result<(), Box<dyn Error>> {
    let columns = columns(lines);
    let width = SIZE.0.cast_signed() / i32::try_from(columns)?;
    for (place, line) in lines.iter().enumerate() {
        let (row, column) = (i32::try_from(place / columns)?, i32::try_from(place % columns)?);
        let (left, middle) = (column * width + 16, row * ROW + 18);
        let ends = [(left, middle), (left + 36, middle)];
        let (stroke, gap) = DASHES[line.number % DASHES.len()];
        let pen = colour(line.number).stroke_width(2);
        area.draw(&DashedPathElement::new(ends, stroke, gap, pen))?;
        area.draw(&(EmptyElement::at((left + 18, middle)) + mark(line.number)))?;
        let style = text().pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(&line.label, &style, (left + 44, middle))?;
    }
    Ok(())
}

fn draw_panel(area: &Area<'_>, name: &str, quantile: f64, lines: &[Line<'_>]) -> Drawn {
    let at = |point: &Point| (point.rate, value(&point.slice.latency, quantile).min(TOP));
    let points = || lines.iter().flat_map(|line| &line.points).map(|point| at(point));
    let (first, last) =
        points().fold((f64::INFINITY, 0.0_f64), |(first, last), (rate, _)| (first.min(rate), last.max(rate)));
    let least = points().map(|(_, latency)| latency).fold(TOP, f64::min);
    let low = 10_f64.powf(least.max(1.0).log10().floor());
    let steps = |from: f64, factor: f64, to: f64| {
        std::iter::successors(Some(from), move |step| Some(step * factor)).take_while(move |step| *step <= to)
    };
    let across =
        (first / 1.2..last * 1.2).log_scale().with_key_points(steps(first, 4.0, last * 1.2).collect());
    let upwards = (low..TOP * 1.3).log_scale().with_key_points(steps(low, 10.0, TOP).collect());
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(50)
        .y_label_area_size(76)
        .build_cartesian_2d(across, upwards)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(grid())
        .axis_style(grid())
        .label_style(text())
        .axis_desc_style(text())
        .x_desc("lines a second, offered")
        .x_label_formatter(&|rate| thousands(*rate))
        .y_label_formatter(&|latency| Figure::Median.show(*latency))
        .draw()?;
    if quantile > 0.5 {
        let limit = in_microseconds(LIMIT);
        let ends = [(first / 1.2, limit), (last * 1.2, limit)];
        chart.draw_series(DashedLineSeries::new(ends, 2, 3, grid().stroke_width(2)))?;
    }
    chart.draw_series([Text::new(name.to_owned(), (first / 1.1, TOP), text())])?;
    for line in lines {
        let points: Vec<_> = line.points.iter().map(|point| at(point)).collect();
        let (stroke, gap) = DASHES[line.number % DASHES.len()];
        let pen = colour(line.number).stroke_width(2);
        chart.draw_series(DashedLineSeries::new(points.clone(), stroke, gap, pen))?;
        chart.draw_series(points.into_iter().map(|point| EmptyElement::at(point) + mark(line.number)))?;
    }
    Ok(())
}

/// A server's mark, one of five forms, around its place.
fn mark(number: usize) -> Polygon<(i32, i32)> {
    const MARKS: [&[(i32, i32)]; 5] = [
        &[(-2, -5), (2, -5), (5, -2), (5, 2), (2, 5), (-2, 5), (-5, 2), (-5, -2)],
        &[(0, -6), (6, 5), (-6, 5)],
        &[(-5, -5), (5, -5), (5, 5), (-5, 5)],
        &[(0, -6), (6, 0), (0, 6), (-6, 0)],
        &[(0, 6), (6, -5), (-6, -5)],
    ];
    Polygon::new(MARKS[number % MARKS.len()], colour(number).filled())
}

fn value(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e3
}
