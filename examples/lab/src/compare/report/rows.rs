//! Rows, each with its words: below them a bar from zero, or marks on a scale that grows by factors of ten. Knows nothing
//! of servers and measurements.

use super::curves::{Axis, steps};
use crate::support::picture::{Picture, Point, ROW, WIDTH};

/// The height of a bar, and of a row with its words.
const BAR: f64 = 14.0;
const WHOLE_ROW: f64 = ROW + BAR + 8.0;
/// The free space at each side.
const MARGIN: f64 = 12.0;

/// One row.
pub struct Row {
    /// What is written above its figures.
    pub label: String,
    /// The lengths of the bar's parts, or the places of the marks.
    pub figures: Vec<f64>,
}

/// Draws bars as an SVG. Each has as many parts as there are names.
pub fn bars(title: &str, parts: &[&str], rows: &[Row]) -> String {
    let names = if parts.len() > 1 { parts } else { &[] };
    let legend = names.len().div_ceil(2) as f64 * ROW;
    let mut picture = Picture::new(title, WIDTH, height(rows) + legend);
    let longest = rows.iter().map(|row| row.figures.iter().sum()).fold(0.0, f64::max);
    if longest <= 0.0 {
        return picture.nothing();
    }
    let bar = |picture: &mut Picture, number, left, right, middle: f64| {
        picture.bar(number, (left, middle - BAR / 2.0), (right, middle + BAR / 2.0));
    };
    draw_legend(&mut picture, names, |picture, number, (left, middle)| {
        bar(picture, number, left, left + BAR, middle);
    });
    draw_rows(&mut picture, rows, legend, |picture, row, middle| {
        let mut left = MARGIN;
        for (number, part) in row.figures.iter().enumerate() {
            let right = left + part / longest * (WIDTH - 2.0 * MARGIN);
            bar(picture, number, left, right, middle);
            left = right;
        }
    });
    picture.svg()
}

/// Draws marks as an SVG. Each row has as many as there are names; `show` writes a number at the scale.
pub fn marks(title: &str, names: &[&str], rows: &[Row], show: &dyn Fn(f64) -> String) -> String {
    let mut picture = Picture::new(title, WIDTH, height(rows) + 2.0 * ROW);
    let figures = || rows.iter().flat_map(|row| &row.figures).copied();
    let (Some(least), Some(greatest)) = (figures().reduce(f64::min), figures().reduce(f64::max)) else {
        return picture.nothing();
    };
    let decade = |value: f64| 10_f64.powf(value.max(0.01).log10().floor());
    let range = decade(least)..decade(greatest) * 10.0;
    let scale = Axis { name: "", steps: steps(range.start, 10.0, range.end * 1.01), range, show };
    let place = |figure: f64| scale.place(figure, MARGIN, WIDTH - MARGIN);
    let bottom = ROW + height(rows);
    for &step in &scale.steps {
        picture.line("grid", &[(place(step), ROW), (place(step), bottom)]);
        let anchor = if step < scale.range.end / 2.0 { "start" } else { "end" };
        picture.text((place(step), bottom + ROW / 2.0), anchor, &show(step));
    }
    draw_legend(&mut picture, names, |picture, number, (left, middle)| {
        picture.mark(number, (left + BAR / 2.0, middle));
    });
    draw_rows(&mut picture, rows, ROW, |picture, row, middle| {
        let places: Vec<Point> = row.figures.iter().map(|figure| (place(*figure), middle)).collect();
        picture.line("ink", &places);
        places.into_iter().enumerate().for_each(|(number, place)| picture.mark(number, place));
    });
    picture.svg()
}

fn height(rows: &[Row]) -> f64 {
    (rows.len() as f64 * WHOLE_ROW).max(3.0 * ROW) + ROW / 2.0
}

/// Writes the names in two columns, or in one row if there are three; `draw` puts a sign at a place.
fn draw_legend(picture: &mut Picture, names: &[&str], draw: impl Fn(&mut Picture, usize, Point)) {
    let columns = if names.len() == 3 { 3 } else { 2 };
    for (number, name) in names.iter().enumerate() {
        let (row, column) = ((number / columns) as f64, (number % columns) as f64);
        let (left, middle) = (MARGIN + column * WIDTH / columns as f64, ROW * row + ROW / 2.0 + 4.0);
        draw(picture, number, (left, middle));
        picture.text((left + BAR + 8.0, middle), "start", name);
    }
}

fn draw_rows(picture: &mut Picture, rows: &[Row], top: f64, draw: impl Fn(&mut Picture, &Row, f64)) {
    for (number, row) in rows.iter().enumerate() {
        let top = top + number as f64 * WHOLE_ROW + ROW / 2.0;
        picture.text((MARGIN, top + ROW / 2.0), "start", &row.label);
        draw(picture, row, top + ROW + BAR / 2.0);
    }
}
