//! How a picture is drawn. Knows nothing of servers and measurements: it is given lines, their names and a scale.
//!
//! A picture is an SVG that stands on its own: it carries its style with it, follows the reader's light or dark theme,
//! and needs no network. The library draws in the light theme's colours, and the style replaces them by the dark ones.

use std::error::Error;
use std::fmt::Write as _;
use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::figures::thousands;
use crate::rounds::Summary;

/// A line with its name in the legend.
pub struct Series {
    /// Its name.
    pub name: String,
    /// The number of its colour; lines that belong together have the same.
    pub colour: usize,
    /// How it is drawn.
    pub stroke: Stroke,
    /// The number of sessions, and the figure there.
    pub points: Vec<(f64, Summary)>,
}

/// How the figure grows upwards.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    /// Evenly, from nothing.
    Linear,
    /// By a factor: for figures of very different sizes.
    Logarithmic,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub enum Stroke {
    /// In one go.
    Whole,
    /// With gaps.
    Dashed,
}

/// A colour in the light theme and in the dark.
type Colour = (RGBColor, RGBColor);

const LINES: [Colour; 8] = [
    (RGBColor(9, 105, 218), RGBColor(88, 166, 255)),
    (RGBColor(209, 72, 10), RGBColor(255, 155, 87)),
    (RGBColor(26, 127, 55), RGBColor(74, 194, 107)),
    (RGBColor(130, 80, 223), RGBColor(188, 140, 255)),
    (RGBColor(154, 103, 0), RGBColor(212, 167, 44)),
    (RGBColor(191, 57, 137), RGBColor(255, 128, 200)),
    (RGBColor(14, 116, 144), RGBColor(103, 205, 222)),
    (RGBColor(87, 96, 106), RGBColor(170, 178, 188)),
];
const INK: Colour = (RGBColor(31, 35, 40), RGBColor(230, 237, 243));
const GRID: Colour = (RGBColor(216, 222, 228), RGBColor(48, 54, 61));
const PAPER: Colour = (RGBColor(255, 255, 254), RGBColor(22, 27, 34));

const SIZE: (u32, u32) = (760, 420);
const TEXT: u32 = 14;

/// Draws the lines as an SVG. `show` writes a value at the axis.
pub fn draw(title: &str, scale: Scale, series: &[Series], show: &dyn Fn(f64) -> String) -> String {
    let mut svg = String::new();
    draw_into(&mut svg, scale, series, show).expect("a string takes whatever is drawn");
    themed(&svg, title)
}

fn draw_into(
    svg: &mut String,
    scale: Scale,
    series: &[Series],
    show: &dyn Fn(f64) -> String,
) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&PAPER.0)?;
    let Some((sessions, values)) = extent(series) else {
        let (middle, style) = ((SIZE.0 / 2 - 80, SIZE.1 / 2), text());
        root.draw_text("nothing was measured", &style, (middle.0.cast_signed(), middle.1.cast_signed()))?;
        return Ok(root.present()?);
    };
    match scale {
        Scale::Linear => {
            plot(&root, series, &sessions, 0.0..values.end * 1.25, show)?;
        }
        Scale::Logarithmic => {
            let (low, high) =
                (values.start.max(f64::MIN_POSITIVE).log10().floor(), values.end.log10().ceil());
            let decades = (low as i32..=high as i32).map(|exponent| 10_f64.powi(exponent)).collect();
            let range = 10_f64.powf(low)..10_f64.powf(high.max(low + 1.0));
            plot(&root, series, &sessions, range.log_scale().with_key_points(decades), show)?;
        }
    }
    Ok(root.present()?)
}

/// From where to where the points reach, sideways and upwards.
fn extent(series: &[Series]) -> Option<(Vec<f64>, Range<f64>)> {
    let points = || series.iter().flat_map(|series| &series.points);
    let mut sessions: Vec<f64> = points().map(|(sessions, _)| *sessions).collect();
    sessions.sort_by(f64::total_cmp);
    sessions.dedup();
    let low = points().map(|(_, value)| value.least).reduce(f64::min)?;
    let high = points().map(|(_, value)| value.greatest).reduce(f64::max)?;
    Some((sessions, low..high))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn plot<Y>(
    root: &Area<'_>,
    series: &[Series],
    sessions: &[f64],
    values: Y,
    show: &dyn Fn(f64) -> String,
) -> Result<(), Box<dyn Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let (first, last) = (sessions[0], sessions[sessions.len() - 1]);
    let across = (first / 1.4..last * 1.4).log_scale().with_key_points(sessions.to_vec());
    let mut chart = ChartBuilder::on(root)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(46)
        .y_label_area_size(78)
        .build_cartesian_2d(across, values)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.0)
        .axis_style(GRID.0)
        .label_style(text())
        .axis_desc_style(text())
        .x_desc("sessions")
        .x_label_formatter(&|sessions| thousands(*sessions))
        .y_label_formatter(&|value| show(*value))
        .draw()?;
    for line in series {
        let colour = LINES[line.colour % LINES.len()].0;
        let medians = line.points.iter().map(|(sessions, value)| (*sessions, value.median));
        let pen = colour.stroke_width(2);
        let drawn = match line.stroke {
            Stroke::Whole => chart.draw_series(LineSeries::new(medians.clone(), pen))?,
            Stroke::Dashed => chart.draw_series(DashedLineSeries::new(medians.clone(), 6, 5, pen))?,
        };
        let dashed = matches!(line.stroke, Stroke::Dashed);
        drawn.label(&line.name).legend(move |(x, y)| legend_line(x, y, dashed, pen));
        chart.draw_series(medians.map(|point| Circle::new(point, 4, colour.filled())))?;
        let spreads = line.points.iter().map(|(x, value)| vec![(*x, value.least), (*x, value.greatest)]);
        chart.draw_series(spreads.map(|ends| PathElement::new(ends, pen)))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(text())
        .legend_area_size(34)
        .draw()?;
    Ok(())
}

/// The sample of a line beside its name.
fn legend_line(x: i32, y: i32, dashed: bool, pen: ShapeStyle) -> PathElement<(i32, i32)> {
    // The legend takes one element a line, so a dashed one is drawn there and back in one stroke, and looks shorter.
    let end = if dashed { x + 12 } else { x + 26 };
    PathElement::new(vec![(x, y), (end, y)], pen)
}

fn text() -> TextStyle<'static> {
    ("system-ui, sans-serif", TEXT).into_font().color(&INK.0)
}

/// Gives the picture its name for those who cannot see it, and its colours for those who read in the dark.
fn themed(svg: &str, title: &str) -> String {
    let mut style = String::new();
    for (light, dark) in LINES.iter().chain([&INK, &GRID, &PAPER]) {
        for property in ["fill", "stroke"] {
            let (light, dark) = (hex(*light), hex(*dark));
            writeln!(style, ".picture [{property}=\"{light}\"] {{ {property}: {dark} }}")
                .expect("a string takes it");
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
