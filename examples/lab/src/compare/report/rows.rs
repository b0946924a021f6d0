//! Rows, each with its words: below them a bar from zero, or marks on a scale that grows by factors of ten. Knows nothing
//! of servers and measurements.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::curves::steps;
use super::theme::{Area, Drawn, ROW, WIDTH, grid, ink, mark, nothing, picture, shade, text};

/// The height of a bar, and of a row with its words.
const BAR: i32 = 14;
const WHOLE_ROW: i32 = ROW + BAR + 8;
/// The free space at each side.
const MARGIN: i32 = 12;

/// One row.
pub struct Row {
    /// What is written above its figures.
    pub label: String,
    /// The lengths of the bar's parts, or the places of the marks.
    pub figures: Vec<f64>,
}

/// Draws bars as an SVG. Each has as many parts as there are names.
pub fn bars(title: &str, parts: &[&str], rows: &[Row]) -> String {
    let legend = if parts.len() > 1 { i32::try_from(parts.len().div_ceil(2)).unwrap_or(1) * ROW } else { 0 };
    picture(title, height(rows) + legend, |root| {
        let longest = rows.iter().map(|row| row.figures.iter().sum()).fold(0.0, f64::max);
        if longest <= 0.0 {
            return nothing(root);
        }
        if parts.len() > 1 {
            draw_legend(root, parts, |swatch, place| {
                let (left, middle) = place;
                draw_part(root, [(left, middle - BAR / 2), (left + BAR, middle + BAR / 2)], swatch)
            })?;
        }
        for_each_row(root, rows, legend, |row, middle| {
            let mut end = 0.0;
            for (number, part) in row.figures.iter().enumerate() {
                let start = end;
                end += part;
                let [left, right] = [start, end].map(|value| at(value / longest));
                draw_part(root, [(left, middle - BAR / 2), (right, middle + BAR / 2)], number)?;
            }
            Ok(())
        })
    })
}

/// Draws marks as an SVG. Each row has as many as there are names; `show` writes a number at the scale.
pub fn marks(title: &str, names: &[&str], rows: &[Row], show: &dyn Fn(f64) -> String) -> String {
    picture(title, height(rows) + 2 * ROW, |root| {
        let figures = || rows.iter().flat_map(|row| &row.figures).copied();
        let (Some(least), Some(greatest)) = (figures().reduce(f64::min), figures().reduce(f64::max)) else {
            return nothing(root);
        };
        let decade = |value: f64| 10_f64.powf(value.max(1.0).log10().floor());
        let (low, high) = (decade(least), decade(greatest) * 10.0);
        let place = |value: f64| at((value.max(low) / low).log10() / (high / low).log10());
        let bottom = ROW + height(rows);
        for step in steps(low, 10.0, high * 1.01) {
            root.draw(&PathElement::new([(place(step), ROW), (place(step), bottom)], grid()))?;
            let side = if step < high / 2.0 { HPos::Left } else { HPos::Right };
            root.draw_text(
                &show(step),
                &text().pos(Pos::new(side, VPos::Center)),
                (place(step), bottom + ROW / 2),
            )?;
        }
        draw_legend(root, names, |number, (left, middle)| {
            Ok(root.draw(&(EmptyElement::at((left + BAR / 2, middle)) + mark(number)))?)
        })?;
        for_each_row(root, rows, ROW, |row, middle| {
            let places: Vec<_> = row.figures.iter().map(|figure| (place(*figure), middle)).collect();
            root.draw(&PathElement::new(places.clone(), ink().stroke_width(2)))?;
            for (number, place) in places.into_iter().enumerate() {
                root.draw(&(EmptyElement::at(place) + mark(number)))?;
            }
            Ok(())
        })
    })
}

fn height(rows: &[Row]) -> i32 {
    (i32::try_from(rows.len()).unwrap_or(0) * WHOLE_ROW).max(3 * ROW) + ROW / 2
}

/// Where a share of the width is.
#[allow(clippy::cast_possible_truncation, reason = "a share of the width is at most the width")]
fn at(share: f64) -> i32 {
    MARGIN + (share.clamp(0.0, 1.0) * f64::from(WIDTH - 2 * MARGIN)).round() as i32
}

fn draw_part(root: &Area<'_>, corners: [(i32, i32); 2], number: usize) -> Drawn {
    root.draw(&Rectangle::new(corners, shade(number).filled()))?;
    Ok(root.draw(&Rectangle::new(corners, ink()))?)
}

/// Writes the names in two columns, or in one row if there are three; `draw` puts a sign at a place.
fn draw_legend(root: &Area<'_>, names: &[&str], draw: impl Fn(usize, (i32, i32)) -> Drawn) -> Drawn {
    let columns = if names.len() == 3 { 3 } else { 2 };
    for (number, name) in names.iter().enumerate() {
        let (row, column) = (i32::try_from(number / columns)?, i32::try_from(number % columns)?);
        let (left, middle) = (MARGIN + column * WIDTH / i32::try_from(columns)?, ROW * row + ROW / 2 + 4);
        draw(number, (left, middle))?;
        root.draw_text(name, &text().pos(Pos::new(HPos::Left, VPos::Center)), (left + BAR + 8, middle))?;
    }
    Ok(())
}

fn for_each_row(root: &Area<'_>, rows: &[Row], top: i32, draw: impl Fn(&Row, i32) -> Drawn) -> Drawn {
    for (number, row) in rows.iter().enumerate() {
        let top = top + i32::try_from(number)? * WHOLE_ROW + ROW / 2;
        let style = text().pos(Pos::new(HPos::Left, VPos::Center));
        root.draw_text(&row.label, &style, (MARGIN, top + ROW / 2))?;
        draw(row, top + ROW + BAR / 2)?;
    }
    Ok(())
}
