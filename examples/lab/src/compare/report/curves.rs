//! Lines over two axes that grow by factors, and rows of bars. Knows nothing of servers and measurements.

use std::iter::successors;

use crate::compare::rounds::Summary;
use crate::support::picture::{Picture, Point, ROW, WIDTH, line_class};

/// The height of a panel.
const PANEL: f64 = 250.0;
/// The room for an axis: below, and at the left.
const LOWER: f64 = 2.0 * ROW;
const LEFT: f64 = 72.0;
/// The height of a bar, and of a row with its words.
const BAR: f64 = 14.0;
const WHOLE_ROW: f64 = ROW + BAR + 8.0;
/// The free space at each side.
const MARGIN: f64 = 12.0;

/// A pair of axes with lines.
pub struct Panel {
    /// What stands below it.
    pub name: String,
    pub across: Axis,
    pub upwards: Axis,
    /// Each with the number of its colour, its strokes and its mark: a line through the medians, with their spreads.
    pub lines: Vec<(usize, Vec<(f64, Summary)>)>,
}

/// An axis. It has no zero: what is outside is drawn at its edge.
pub struct Axis {
    /// The numbers at it, in order.
    pub steps: Vec<f64>,
    /// How much of it is before the first number and behind the last one, as a factor.
    pub beyond: f64,
    /// How a number is written.
    pub show: fn(f64) -> String,
}

/// The numbers from the first one to the last, each so many times the one before.
pub fn steps(first: f64, factor: f64, last: f64) -> Vec<f64> {
    successors(Some(first), |step| Some(step * factor)).take_while(|step| *step <= last).collect()
}

impl Axis {
    /// Where a number is between two places.
    fn place(&self, number: f64, from: f64, to: f64) -> f64 {
        let (first, last) = (self.steps[0] / self.beyond, self.steps[self.steps.len() - 1] * self.beyond);
        from + (to - from) * (number.clamp(first, last) / first).ln() / (last / first).ln()
    }
}

/// Draws what each line is, and then the panels one below the other.
pub fn draw(title: &str, names: &[(usize, String)], panels: &[Panel]) -> String {
    let legend = (names.len() as f64 + 0.5) * ROW;
    let mut picture = Picture::new(title, WIDTH, legend + panels.len() as f64 * PANEL);
    if names.is_empty() {
        return picture.nothing();
    }
    for (row, (number, name)) in names.iter().enumerate() {
        let middle = (row as f64 + 0.5) * ROW + 6.0;
        picture.line(&line_class(*number), &[(16.0, middle), (52.0, middle)]);
        picture.mark(*number, (34.0, middle));
        picture.text((62.0, middle), "start", name);
    }
    for (nth, panel) in panels.iter().enumerate() {
        let top = legend + nth as f64 * PANEL;
        panel.draw(&mut picture, (LEFT, top + ROW / 2.0), (WIDTH - ROW, top + PANEL - LOWER));
    }
    picture.svg()
}

impl Panel {
    /// Draws the lines between two corners.
    fn draw(&self, picture: &mut Picture, (left, top): Point, (right, bottom): Point) {
        let across = |number| self.across.place(number, left, right);
        let upwards = |number| self.upwards.place(number, bottom, top);
        for &step in &self.across.steps {
            picture.line("grid", &[(across(step), top), (across(step), bottom)]);
            picture.text((across(step), bottom + 0.6 * ROW), "middle", &(self.across.show)(step));
        }
        for &step in &self.upwards.steps {
            picture.line("grid", &[(left, upwards(step)), (right, upwards(step))]);
            picture.text((left - 6.0, upwards(step)), "end", &(self.upwards.show)(step));
        }
        picture.line("grid", &[(left, top), (left, bottom), (right, bottom)]);
        picture.text((left.midpoint(right), bottom + 1.5 * ROW), "middle", &self.name);
        for (number, points) in &self.lines {
            let class = line_class(*number);
            let at = |x: f64, y: f64| (across(x), upwards(y));
            let medians: Vec<Point> = points.iter().map(|(x, value)| at(*x, value.median)).collect();
            picture.line(&class, &medians);
            for ((x, value), median) in points.iter().zip(&medians) {
                picture.mark(*number, *median);
                picture.line(&format!("thin {class}"), &[at(*x, value.least), at(*x, value.greatest)]);
            }
        }
    }
}

/// Draws a row for each label: below it a bar from zero, with as many parts as there are names.
pub fn bars(title: &str, parts: &[&str], rows: &[(String, Vec<f64>)]) -> String {
    let names = if parts.len() > 1 { parts } else { &[] };
    let legend = names.len().div_ceil(2) as f64 * ROW;
    let height = (rows.len() as f64 * WHOLE_ROW).max(3.0 * ROW) + ROW / 2.0;
    let mut picture = Picture::new(title, WIDTH, legend + height);
    let longest = rows.iter().map(|(_, parts)| parts.iter().sum()).fold(0.0, f64::max);
    if longest <= 0.0 {
        return picture.nothing();
    }
    let bar = |picture: &mut Picture, number, left, right, middle: f64| {
        picture.bar(number, (left, middle - BAR / 2.0), (right, middle + BAR / 2.0));
    };
    for (number, name) in names.iter().enumerate() {
        let (row, column) = ((number / 2) as f64, (number % 2) as f64);
        let (left, middle) = (MARGIN + column * WIDTH / 2.0, ROW * row + ROW / 2.0 + 4.0);
        bar(&mut picture, number, left, left + BAR, middle);
        picture.text((left + BAR + 8.0, middle), "start", name);
    }
    for (row, (label, parts)) in rows.iter().enumerate() {
        let top = legend + row as f64 * WHOLE_ROW + ROW / 2.0;
        picture.text((MARGIN, top + ROW / 2.0), "start", label);
        let mut left = MARGIN;
        for (number, part) in parts.iter().enumerate() {
            let right = left + part / longest * (WIDTH - 2.0 * MARGIN);
            bar(&mut picture, number, left, right, top + ROW + BAR / 2.0);
            left = right;
        }
    }
    picture.svg()
}
