//! What all pictures have in common: their size, their colours and their type.
//!
//! A picture is an SVG with its own style. It follows the reader's light or dark theme and needs no network. plotters
//! draws in the light theme's colours, and the style replaces them by the dark ones.

use std::error::Error;
use std::fmt::Write as _;

use plotters::coord::Shift;
use plotters::prelude::*;

/// The whole picture, or a part of it.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Drawn, or not.
pub type Drawn = Result<(), Box<dyn Error>>;
/// A colour in the light theme and in the dark.
type Colour = (RGBColor, RGBColor);

/// The width of a picture: narrow, so that its text can be read on a phone.
pub const WIDTH: i32 = 480;
/// The height of a line of text.
pub const ROW: i32 = 22;
const TEXT: u32 = 15;

/// How long the strokes of a server's line are, and the gaps; the first is a solid line. Together with the marks, they
/// tell the lines apart without colours.
const DASHES: [(i32, i32); 4] = [(10_000, 1), (9, 4), (3, 4), (14, 7)];
/// The forms of the marks, around their place.
const MARKS: [&[(i32, i32)]; 5] = [
    &[(-2, -5), (2, -5), (5, -2), (5, 2), (2, 5), (-2, 5), (-5, 2), (-5, -2)],
    &[(0, -6), (6, 5), (-6, 5)],
    &[(-5, -5), (5, -5), (5, 5), (-5, 5)],
    &[(0, -6), (6, 0), (0, 6), (-6, 0)],
    &[(0, 6), (6, -5), (-6, -5)],
];

const LINES: [Colour; 8] = [
    (RGBColor(9, 105, 218), RGBColor(88, 166, 255)),
    (RGBColor(209, 72, 10), RGBColor(255, 155, 87)),
    (RGBColor(26, 127, 55), RGBColor(74, 194, 107)),
    (RGBColor(130, 80, 223), RGBColor(188, 140, 255)),
    (RGBColor(14, 150, 165), RGBColor(103, 215, 222)),
    (RGBColor(204, 41, 122), RGBColor(255, 128, 200)),
    (RGBColor(122, 122, 0), RGBColor(200, 205, 70)),
    (RGBColor(87, 96, 106), RGBColor(170, 178, 188)),
];
/// The parts of a bar, from dark to light, or from light to dark in the dark theme.
const SHADES: [Colour; 4] = [
    (RGBColor(9, 58, 120), RGBColor(205, 227, 255)),
    (RGBColor(84, 144, 208), RGBColor(128, 176, 232)),
    (RGBColor(168, 204, 238), RGBColor(66, 108, 158)),
    (RGBColor(232, 240, 248), RGBColor(38, 52, 72)),
];
const INK: Colour = (RGBColor(31, 35, 40), RGBColor(230, 237, 243));
const GRID: Colour = (RGBColor(216, 222, 228), RGBColor(48, 54, 61));
const PAPER: Colour = (RGBColor(255, 255, 254), RGBColor(22, 27, 34));

/// Draws on paper of this height; returns the SVG.
pub fn picture(title: &str, height: i32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
    draw_on_paper(&mut svg, size, draw).expect("drawing to a string does not fail");
    themed(&svg, title)
}

fn draw_on_paper(svg: &mut String, size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Drawn {
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&PAPER.0)?;
    draw(&root)?;
    Ok(root.present()?)
}

/// A picture without figures.
pub fn nothing(root: &Area<'_>) -> Drawn {
    Ok(root.draw_text("nothing was measured", &text(), (WIDTH / 3, 2 * ROW))?)
}

/// The colour of the server with this number.
pub fn colour(number: usize) -> RGBColor {
    LINES[number % LINES.len()].0
}

/// The strokes of this server's line, and the gaps between them.
pub fn dashes(number: usize) -> (i32, i32) {
    DASHES[number % DASHES.len()]
}

/// This server's mark, to be put at a place.
pub fn mark(number: usize) -> Polygon<(i32, i32)> {
    Polygon::new(MARKS[number % MARKS.len()], colour(number).filled())
}

/// The fill of a bar's part with this number.
pub fn shade(number: usize) -> RGBColor {
    SHADES[number % SHADES.len()].0
}

/// The colour of text and outlines.
pub fn ink() -> RGBColor {
    INK.0
}

/// The colour of the grid.
pub fn grid() -> RGBColor {
    GRID.0
}

/// The type of all text.
pub fn text() -> TextStyle<'static> {
    ("system-ui, sans-serif", TEXT).into_font().color(&INK.0)
}

/// A name that fits in a picture.
pub fn shortened(name: &str) -> String {
    const LONGEST: usize = 21;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['\u{2026}']).collect()
}

/// Adds the picture's name for screen readers, and its colours for a dark theme.
fn themed(svg: &str, title: &str) -> String {
    let mut style = String::new();
    for (light, dark) in LINES.iter().chain(&SHADES).chain([&INK, &GRID, &PAPER]) {
        for property in ["fill", "stroke"] {
            let (light, dark) = (hex(*light), hex(*dark));
            writeln!(style, ".picture [{property}=\"{light}\"] {{ {property}: {dark} }}")
                .expect("writing to a string does not fail");
        }
    }
    let opening = format!("<svg class=\"picture\" role=\"img\" aria-label=\"{title}\" ");
    let style = format!("<style>@media (prefers-color-scheme: dark) {{\n{style}}}</style>\n");
    let svg = svg.replacen("<svg ", &opening, 1);
    match svg.find(">\n") {
        Some(end) => format!("{}{style}{}", &svg[..end + 2], &svg[end + 2..]),
        None => svg,
    }
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}
