//! A picture of spans: from the least to the greatest figure of each name. Knows nothing of servers and measurements.

use plotters::prelude::*;

use super::theme::{Area, Drawn, colour, grid, nothing, picture, text};

/// One line of the picture.
pub struct Span {
    /// What is written above it.
    pub label: String,
    /// The number of its colour.
    pub colour: usize,
    /// The figures, in order; the first and the last are its ends.
    pub figures: Vec<f64>,
}

/// Draws it as an SVG; `show` writes a figure at the axis.
pub fn draw(title: &str, spans: &[Span], show: &dyn Fn(f64) -> String) -> String {
    picture(title, |root| draw_on(root, spans, show))
}

fn draw_on(root: &Area<'_>, spans: &[Span], show: &dyn Fn(f64) -> String) -> Drawn {
    let figures = || spans.iter().flat_map(|span| &span.figures).copied();
    let (Some(least), Some(greatest)) = (figures().reduce(f64::min), figures().reduce(f64::max)) else {
        return nothing(root);
    };
    let decade = |value: f64| 10_f64.powf(value.max(1.0).log10().floor());
    let (low, high) = (decade(least), decade(greatest) * 10.0);
    let decades = std::iter::successors(Some(low), |step| Some(step * 10.0)).take_while(|step| *step <= high);
    let axis = (low..high).log_scale().with_key_points(decades.collect());
    let mut chart = ChartBuilder::on(root)
        .margin(16)
        .margin_left(48)
        .margin_right(48)
        .x_label_area_size(30)
        .build_cartesian_2d(axis, 0.0..spans.len() as f64)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(grid())
        .axis_style(grid())
        .label_style(text())
        .disable_y_mesh()
        .y_labels(0)
        .x_label_formatter(&|value| show(*value))
        .draw()?;
    // The first one is on top.
    for (row, span) in spans.iter().rev().enumerate() {
        let (colour, height) = (colour(span.colour), row as f64 + 0.35);
        let points: Vec<_> = span.figures.iter().map(|figure| (figure.max(low), height)).collect();
        chart.draw_series([Text::new(span.label.clone(), (low * 1.05, row as f64 + 0.75), text())])?;
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(3)))?;
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 5, colour.filled())))?;
    }
    Ok(())
}
