//! A picture of lines: figures against the number of sessions. Knows nothing of servers and measurements.

use std::error::Error;
use std::iter::successors;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::theme::{Area, Drawn, ROW, SIZE, colour, grid, nothing, picture, shortened, text, width_of};
use crate::compare::figures::thousands;
use crate::compare::rounds::Summary;

/// What is to be drawn.
pub struct Plot<'a> {
    /// What a screen reader says.
    pub title: &'a str,
    /// How the figures grow upwards.
    pub scale: Scale,
    /// The lines.
    pub lines: Vec<Line<'a>>,
    /// How a value is written at the axis.
    pub show: &'a dyn Fn(f64) -> String,
}

/// A line through the medians, with the spread at each point.
#[derive(Clone)]
pub struct Line<'a> {
    /// Its name.
    pub name: &'a str,
    /// The number of its colour.
    pub colour: usize,
    /// The number of sessions, and the figure there.
    pub points: Vec<(f64, Summary)>,
}

/// How the figures grow upwards.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By this factor from one line of the grid to the next: for figures of very different sizes.
    Logarithmic(f64),
}

/// The width that a name in the legend needs beside its own: its line and the gaps.
const MARK: i32 = 60;

/// Draws it as an SVG.
pub fn draw(plot: &Plot<'_>) -> String {
    picture(plot.title, |root| draw_on(root, plot))
}

fn draw_on(root: &Area<'_>, plot: &Plot<'_>) -> Drawn {
    let Some((sessions, greatest)) = extent(&plot.lines) else { return nothing(root) };
    let (_, area) = root.split_vertically(draw_legend(root, &plot.lines)?);
    match plot.scale {
        Scale::Linear => draw_lines(&area, &plot.lines, &sessions, 0.0..greatest * 1.08, plot.show)?,
        Scale::Logarithmic(factor) => {
            // Such an axis has no zero: values below the least median are drawn at its lower edge.
            let step_below = |value: f64| factor.powf(value.log(factor).floor());
            let medians = plot.lines.iter().flat_map(|line| &line.points).map(|(_, value)| value.median);
            let low = step_below(medians.fold(f64::INFINITY, f64::min).max(1.0));
            let high = step_below(greatest.max(low)) * factor;
            let steps = successors(Some(low), |step| Some(step * factor)).take_while(|step| *step <= high);
            let axis = (low..high).log_scale().with_key_points(steps.collect());
            draw_lines(&area, &no_lower_than(low, &plot.lines), &sessions, axis, plot.show)?;
        }
    }
    Ok(())
}

/// The numbers of sessions, and the greatest figure.
fn extent(lines: &[Line<'_>]) -> Option<(Vec<f64>, f64)> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let mut sessions: Vec<f64> = points().map(|(sessions, _)| *sessions).collect();
    sessions.sort_by(f64::total_cmp);
    sessions.dedup();
    let greatest = points().map(|(_, value)| value.greatest).reduce(f64::max)?;
    Some((sessions, greatest))
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

/// Writes the names above the picture; returns the height that they take.
fn draw_legend(root: &Area<'_>, lines: &[Line<'_>]) -> Result<i32, Box<dyn Error>> {
    let right = SIZE.0.cast_signed();
    let (mut x, mut y) = (0, 0);
    for line in lines {
        let name = shortened(line.name);
        let width = MARK + width_of(&name);
        if x > 0 && x + width > right {
            (x, y) = (0, y + ROW);
        }
        let (left, middle) = (x + 16, y + 18);
        let pen = colour(line.colour).stroke_width(3);
        root.draw(&PathElement::new([(left, middle), (left + 24, middle)], pen))?;
        let style = text().pos(Pos::new(HPos::Left, VPos::Center));
        root.draw_text(&name, &style, (left + 32, middle))?;
        x += width;
    }
    Ok(y + ROW + ROW / 2)
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
        chart.draw_series(LineSeries::new(medians.clone(), pen))?;
        chart.draw_series(medians.map(|point| Circle::new(point, 4, colour.filled())))?;
        let spreads = line.points.iter().map(|(x, value)| [(*x, value.least), (*x, value.greatest)]);
        chart.draw_series(spreads.map(|ends| PathElement::new(ends, colour)))?;
    }
    Ok(())
}
