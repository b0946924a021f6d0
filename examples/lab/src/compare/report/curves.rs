//! Lines over two axes that grow by factors. Knows nothing of servers and measurements.

use std::error::Error;
use std::iter::successors;
use std::ops::Range;

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::theme::{Area, Drawn, ROW, WIDTH, colour, dashes, grid, mark, nothing, picture, shortened, text};
use crate::compare::rounds::Summary;

/// The height of a picture with one panel.
const HEIGHT: i32 = 380;
/// The room for the axis below.
const LOWER: i32 = 62;
/// The room for the names at the right.
const NAMES: i32 = 164;

/// A pair of axes with lines.
pub struct Panel<'a> {
    /// To the right.
    pub across: Axis<'a>,
    /// Upwards.
    pub upwards: Axis<'a>,
    /// The lines.
    pub lines: Vec<Line>,
}

/// An axis.
pub struct Axis<'a> {
    /// What it counts.
    pub name: &'a str,
    /// Where it begins and ends.
    pub range: Range<f64>,
    /// The numbers at it.
    pub steps: Vec<f64>,
    /// How a number is written.
    pub show: &'a dyn Fn(f64) -> String,
}

/// A line through the medians, with the spread at each point.
pub struct Line {
    /// The number of its colour, its strokes and its mark.
    pub number: usize,
    /// Its points.
    pub points: Vec<(f64, Summary)>,
}

/// The numbers from the first one to the last, each so many times the one before.
pub fn steps(first: f64, factor: f64, last: f64) -> Vec<f64> {
    successors(Some(first), |step| Some(step * factor)).take_while(|step| *step <= last).collect()
}

/// Draws one panel as an SVG, with a name at the end of each line.
pub fn draw(title: &str, panel: &Panel<'_>, names: &[String]) -> String {
    picture(title, HEIGHT, |root| {
        if panel.lines.is_empty() {
            return nothing(root);
        }
        let ends = draw_panel(root, panel, NAMES)?;
        write_names(root, panel, &ends, names)
    })
}

/// Draws the lines and leaves room at the right; returns where each line ends in the picture.
pub fn draw_panel(area: &Area<'_>, panel: &Panel<'_>, right: i32) -> Result<Vec<(i32, i32)>, Box<dyn Error>> {
    let scale = |axis: &Axis<'_>| axis.range.clone().log_scale().with_key_points(axis.steps.clone());
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(right)
        .x_label_area_size(LOWER - 16)
        .y_label_area_size(if panel.upwards.name.is_empty() { 62 } else { 62 + ROW })
        .build_cartesian_2d(scale(&panel.across), scale(&panel.upwards))?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(grid())
        .axis_style(grid())
        .label_style(text())
        .axis_desc_style(text())
        .x_desc(panel.across.name)
        .y_desc(panel.upwards.name)
        .x_label_formatter(&|number| (panel.across.show)(*number))
        .y_label_formatter(&|number| (panel.upwards.show)(*number))
        .draw()?;
    // Such an axis has no zero: what is below it is drawn at its lower edge, and what is above at its upper.
    let Range { start, end } = panel.upwards.range;
    let mut ends = Vec::new();
    for line in &panel.lines {
        let colour = colour(line.number);
        let medians = || line.points.iter().map(|(x, value)| (*x, value.median.clamp(start, end)));
        let (stroke, gap) = dashes(line.number);
        chart.draw_series(DashedLineSeries::new(medians(), stroke, gap, colour.stroke_width(2)))?;
        chart.draw_series(medians().map(|point| EmptyElement::at(point) + mark(line.number)))?;
        let spread = |value: &Summary| [value.least, value.greatest].map(|value| value.clamp(start, end));
        let spreads = line.points.iter().map(|(x, value)| spread(value).map(|y| (*x, y)));
        chart.draw_series(spreads.map(|ends| PathElement::new(ends, colour)))?;
        ends.extend(medians().next_back().map(|point| chart.backend_coord(&point)));
    }
    Ok(ends)
}

/// Writes each name beside the end of its line, and a thin line to it where names would overlap.
fn write_names(root: &Area<'_>, panel: &Panel<'_>, ends: &[(i32, i32)], names: &[String]) -> Drawn {
    let heights = apart(&ends.iter().map(|(_, y)| *y).collect::<Vec<_>>(), ROW - 4, HEIGHT - LOWER);
    for ((line, name), (end, height)) in panel.lines.iter().zip(names).zip(ends.iter().zip(heights)) {
        let left = WIDTH - NAMES + 16;
        let pen = colour(line.number);
        root.draw(&DashedPathElement::new([(end.0 + 7, end.1), (left - 2, height)], 2, 2, pen))?;
        let style = text().pos(Pos::new(HPos::Left, VPos::Center));
        root.draw_text(&shortened(name), &style, (left, height))?;
    }
    Ok(())
}

/// The heights at which texts can stand that want to stand at these: at least `gap` apart, and not below `bottom`.
fn apart(wanted: &[i32], gap: i32, bottom: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|&place| wanted[place]);
    let mut heights = wanted.to_vec();
    // Down from the first one, then up from the last one.
    let mut free = i32::MIN;
    for &place in &order {
        heights[place] = heights[place].max(free);
        free = heights[place] + gap;
    }
    let mut free = bottom;
    for &place in order.iter().rev() {
        heights[place] = heights[place].min(free);
        free = heights[place] - gap;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_apart_and_in_the_order_of_their_lines() {
        assert_eq!(apart(&[50, 10, 90], 20, 100), [50, 10, 90]);
        assert_eq!(apart(&[50, 49, 51], 20, 200), [69, 49, 89]);
        assert_eq!(apart(&[95, 94, 99], 20, 100), [80, 60, 100]);
    }
}
