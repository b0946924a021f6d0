//! The one way to draw: shapes on paper, as an SVG with a style of its own. It follows the reader's light or dark theme, and
//! needs no network. Colours, strokes and lines have classes in `picture.css`.

use std::fmt::{Display, Write};

/// The width of most pictures: narrow, so that their text can be read on a phone.
pub const WIDTH: f64 = 480.0;
/// The height of a line of text.
pub const ROW: f64 = 22.0;

/// A place in a picture: to the right, and down.
pub type Point = (f64, f64);

/// The forms of the marks, around their place. Together with the strokes of the lines, they tell servers apart without
/// colours.
const MARKS: [&str; 5] = [
    "M-2-5L2-5L5-2L5 2L2 5L-2 5L-5 2L-5-2Z",
    "M0-6L6 5L-6 5Z",
    "M-5-5L5-5L5 5L-5 5Z",
    "M0-6L6 0L0 6L-6 0Z",
    "M0 6L6-5L-6-5Z",
];
/// How many colours there are for lines, and how many kinds of strokes.
const COLOURS: usize = 8;
const STROKES: usize = 4;

/// A picture.
pub struct Picture {
    title: String,
    size: Point,
    shapes: String,
}

impl Picture {
    /// Paper of this size.
    pub fn new(title: &str, width: f64, height: f64) -> Self {
        let mut picture = Self { title: title.to_owned(), size: (width, height), shapes: String::new() };
        picture.add(format_args!("<rect class=\"paper\" width=\"100%\" height=\"100%\"/>"));
        picture
    }

    /// Adds an element of SVG.
    pub fn add(&mut self, element: impl Display) {
        writeln!(self.shapes, "{element}").expect("a string grows");
    }

    /// Writes a text at the height of its middle. Its start, middle or end is at the place.
    pub fn text(&mut self, (x, y): Point, anchor: &str, text: &str) {
        let text = escaped(text);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" dy=\".35em\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// Draws a line through these places.
    pub fn line(&mut self, class: &str, points: &[Point]) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.add(format_args!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" ")));
    }

    /// Draws a part of a bar, with the fill of this number, from one corner to the other.
    pub fn bar(&mut self, number: usize, (left, top): Point, (right, bottom): Point) {
        let (width, height) = (right - left, bottom - top);
        self.add(format_args!(
            "<rect class=\"bar s{number}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
    }

    /// Puts the mark with this number at a place.
    pub fn mark(&mut self, number: usize, (x, y): Point) {
        let (colour, form) = (number % COLOURS, MARKS[number % MARKS.len()]);
        self.add(format_args!(
            "<path class=\"mark c{colour}\" transform=\"translate({x:.1} {y:.1})\" d=\"{form}\"/>"
        ));
    }

    /// Says that there is nothing to draw.
    pub fn nothing(mut self) -> String {
        self.text((self.size.0 / 2.0, 2.0 * ROW), "middle", "nothing was measured");
        self.svg()
    }

    /// The finished picture.
    pub fn svg(self) -> String {
        let ((width, height), title, shapes) = (self.size, escaped(&self.title), self.shapes);
        let style = include_str!("picture.css");
        format!(
            "<svg class=\"picture\" role=\"img\" aria-label=\"{title}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 \
             {width} {height}\" xmlns=\"http://www.w3.org/2000/svg\">\n<style>\n{style}</style>\n{shapes}</svg>\n"
        )
    }
}

/// The class of the line with this number: its colour, and its strokes.
pub fn line_class(number: usize) -> String {
    format!("c{} d{}", number % COLOURS, number % STROKES)
}

/// A name that fits in a picture.
pub fn shortened(name: &str) -> String {
    const LONGEST: usize = 21;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['\u{2026}']).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
