//! A picture of lines: figures against the number of sessions. Knows nothing of servers and measurements: it is given
//! lines, their names and a scale.

use std::error::Error;
use std::iter::successors;
use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::theme::{Area, Drawn, ROW, SIZE, colour, grid, ink, nothing, picture, text};
use crate::figures::thousands;
use crate::rounds::Summary;

/// What is to be drawn.
pub struct Plot<'a> {
    /// What it is called, for those who cannot see it.
    pub title: &'a str,
    /// How the figures grow upwards.
    pub scale: Scale,
    /// The lines.
    pub lines: Vec<Line<'a>>,
    /// What a stroke means, if not all lines have the same.
    pub strokes: Vec<(Stroke, &'a str)>,
    /// How a value is written at the axis.
    pub show: &'a dyn Fn(f64) -> String,
}

/// A line through the medians, with the spread at each point.
#[derive(Clone)]
pub struct Line<'a> {
    /// Its name; lines that belong together have the same name and colour.
    pub name: &'a str,
    /// The number of its colour.
    pub colour: usize,
    /// How it is drawn.
    pub stroke: Stroke,
    /// The number of sessions, and the figure there.
    pub points: Vec<(f64, Summary)>,
}

/// How the figures grow upwards.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    /// Evenly, from nothing.
    Linear,
    /// By this factor from one line of the grid to the next: for figures of very different sizes.
    Logarithmic(f64),
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// In one go.
    Whole,
    /// With gaps.
    Dashed,
}

/// How many names stand in a line of the legend.
const NAMES_IN_ROW: usize = 3;

/// Draws it as an SVG.
pub fn draw(plot: &Plot<'_>) -> String {
    picture(plot.title, |root| draw_on(root, plot))
}

fn draw_on(root: &Area<'_>, plot: &Plot<'_>) -> Drawn {
    let Some((sessions, values)) = extent(&plot.lines) else { return nothing(root) };
    let (_, area) = root.split_vertically(draw_legend(root, plot)?);
    match plot.scale {
        Scale::Linear => draw_lines(&area, &plot.lines, &sessions, 0.0..values.end * 1.08, plot.show)?,
        Scale::Logarithmic(factor) => {
            // There is no place for nothing on such an axis: what is less than 1 is drawn at its lower edge.
            let step_below = |value: f64| factor.powf(value.log(factor).floor());
            let low = step_below(values.start.max(1.0));
            let high = step_below(values.end.max(low)) * factor;
            let steps = successors(Some(low), |step| Some(step * factor)).take_while(|step| *step <= high);
            let axis = (low..high).log_scale().with_key_points(steps.collect());
            draw_lines(&area, &no_lower_than(low, &plot.lines), &sessions, axis, plot.show)?;
        }
    }
    Ok(())
}

/// The numbers of sessions that there are, and from where to where the figures reach.
fn extent(lines: &[Line<'_>]) -> Option<(Vec<f64>, Range<f64>)> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let mut sessions: Vec<f64> = points().map(|(sessions, _)| *sessions).collect();
    sessions.sort_by(f64::total_cmp);
    sessions.dedup();
    let low = points().map(|(_, value)| value.least).reduce(f64::min)?;
    let high = points().map(|(_, value)| value.greatest).reduce(f64::max)?;
    Some((sessions, low..high))
}

fn no_lower_than<'a>(low: f64, lines: &[Line<'a>]) -> Vec<Line<'a>> {
    let raise = |value: Summary| Summary {
        median: value.median.max(low),
        least: value.least.max(low),
        greatest: value.greatest.max(low),
    };
    let mut lines = lines.to_vec();
    for (_, value) in lines.iter_mut().flat_map(|line| &mut line.points) {
        *value = raise(*value);
    }
    lines
}

/// Writes the names above the picture, where no line runs through them; returns the height that they take.
fn draw_legend(root: &Area<'_>, plot: &Plot<'_>) -> Result<i32, Box<dyn Error>> {
    let mut entries: Vec<(&str, RGBColor, Stroke)> = Vec::new();
    for line in &plot.lines {
        if entries.iter().all(|(name, ..)| *name != line.name) {
            entries.push((line.name, colour(line.colour), Stroke::Whole));
        }
    }
    entries.extend(plot.strokes.iter().map(|&(stroke, meaning)| (meaning, ink(), stroke)));

    let width = i32::try_from(SIZE.0 as usize / NAMES_IN_ROW)?;
    let (mut x, mut y) = (0, 0);
    for (name, colour, stroke) in entries {
        let (left, middle) = (x + 16, y + 18);
        let pen = colour.stroke_width(3);
        let dashes: &[(i32, i32)] =
            if stroke == Stroke::Whole { &[(0, 24)] } else { &[(0, 6), (9, 15), (18, 24)] };
        for (from, to) in dashes {
            root.draw(&PathElement::new([(left + from, middle), (left + to, middle)], pen))?;
        }
        let style = text().pos(Pos::new(HPos::Left, VPos::Center));
        root.draw_text(name, &style, (left + 32, middle))?;
        x += width;
        if x + width > SIZE.0.cast_signed() {
            (x, y) = (0, y + ROW);
        }
    }
    Ok(if x == 0 { y } else { y + ROW })
}

fn draw_lines<Y>(
    area: &Area<'_>,
    lines: &[Line<'_>],
    sessions: &[f64],
    values: Y,
    show: &dyn Fn(f64) -> String,
) -> Drawn
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let (first, last) = (sessions[0], sessions[sessions.len() - 1]);
    let across = (first / 1.4..last * 1.4).log_scale().with_key_points(sessions.to_vec());
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(50)
        .y_label_area_size(76)
        .build_cartesian_2d(across, values)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(grid())
        .axis_style(grid())
        .label_style(text())
        .axis_desc_style(text())
        .x_desc("sessions")
        .y_labels(8)
        .x_label_formatter(&|sessions| thousands(*sessions))
        .y_label_formatter(&|value| show(*value))
        .draw()?;
    for line in lines {
        let colour = colour(line.colour);
        let pen = colour.stroke_width(2);
        let medians = line.points.iter().map(|(sessions, value)| (*sessions, value.median));
        match line.stroke {
            Stroke::Whole => chart.draw_series(LineSeries::new(medians.clone(), pen))?,
            Stroke::Dashed => chart.draw_series(DashedLineSeries::new(medians.clone(), 6, 5, pen))?,
        };
        chart.draw_series(medians.map(|point| Circle::new(point, 4, colour.filled())))?;
        let spreads = line.points.iter().map(|(x, value)| [(*x, value.least), (*x, value.greatest)]);
        chart.draw_series(spreads.map(|ends| PathElement::new(ends, colour)))?;
    }
    Ok(())
}
