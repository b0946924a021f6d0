//! Lines over two axes that grow by factors. Knows nothing of servers and measurements.

use std::iter::successors;
use std::ops::Range;

use crate::compare::rounds::Summary;
use crate::support::picture::{Picture, Point, ROW, line_class};

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

impl Axis<'_> {
    /// Where a number is between two places. The axis has no zero: what is outside is drawn at its edge.
    pub fn place(&self, number: f64, from: f64, to: f64) -> f64 {
        let Range { start, end } = self.range;
        from + (to - from) * (number.clamp(start, end) / start).ln() / (end / start).ln()
    }
}

impl Panel<'_> {
    /// Draws the lines between two corners; returns where each one ends.
    pub fn draw(&self, picture: &mut Picture, (left, top): Point, (right, bottom): Point) -> Vec<Point> {
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
        picture.text((left.midpoint(right), bottom + 1.5 * ROW), "middle", self.across.name);
        picture.text((8.0, top.midpoint(bottom)), "start", self.upwards.name);
        let mut ends = Vec::new();
        for line in &self.lines {
            let class = line_class(line.number);
            let at = |x: f64, y: f64| (across(x), upwards(y));
            let medians: Vec<Point> = line.points.iter().map(|(x, value)| at(*x, value.median)).collect();
            picture.line(&class, &medians);
            for ((x, value), median) in line.points.iter().zip(&medians) {
                picture.mark(line.number, *median);
                if value.least < value.greatest {
                    picture.line(&format!("thin {class}"), &[at(*x, value.least), at(*x, value.greatest)]);
                }
            }
            ends.extend(medians.last());
        }
        ends
    }
}

/// The heights at which texts can stand that want to stand at these: at least `gap` apart, and not below `bottom`.
pub fn apart(wanted: &[f64], gap: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&one, &other| wanted[one].total_cmp(&wanted[other]));
    let mut heights = wanted.to_vec();
    // Down from the first one, then up from the last one.
    let mut free = f64::MIN;
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
        assert_eq!(apart(&[50.0, 10.0, 90.0], 20.0, 100.0), [50.0, 10.0, 90.0]);
        assert_eq!(apart(&[50.0, 49.0, 51.0], 20.0, 200.0), [69.0, 49.0, 89.0]);
        assert_eq!(apart(&[95.0, 94.0, 99.0], 20.0, 100.0), [80.0, 60.0, 100.0]);
    }
}
