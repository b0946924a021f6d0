//! A picture of bars: one figure for each name. Knows nothing of servers and measurements.

use plotters::prelude::*;

use super::theme::{Area, Drawn, colour, nothing, picture, text};

/// One line of the picture.
pub struct Bar {
    /// What is written above it: the name and the figure.
    pub label: String,
    /// The number of its colour.
    pub colour: usize,
    /// The figure.
    pub length: f64,
}

/// Draws it as an SVG.
pub fn draw(title: &str, bars: &[Bar]) -> String {
    picture(title, |root| draw_on(root, bars))
}

fn draw_on(root: &Area<'_>, bars: &[Bar]) -> Drawn {
    let Some(longest) = bars.iter().map(|bar| bar.length).reduce(f64::max) else { return nothing(root) };
    let across = 0.0..longest.max(f64::MIN_POSITIVE);
    let mut chart = ChartBuilder::on(root).margin(24).build_cartesian_2d(across, 0.0..bars.len() as f64)?;
    // The first stands on top.
    for (row, bar) in bars.iter().rev().enumerate() {
        let low = row as f64;
        chart.draw_series([Text::new(bar.label.clone(), (0.0, low + 0.85), text())])?;
        let corners = [(0.0, low + 0.2), (bar.length, low + 0.5)];
        chart.draw_series([Rectangle::new(corners, colour(bar.colour).filled())])?;
    }
    Ok(())
}
