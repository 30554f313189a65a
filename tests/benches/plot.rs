//! Drawings of what was measured, as SVG.

use std::error::Error;

use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
};

use crate::figures::Series;

const FONT: &str = "sans-serif";
const WIDTH: u32 = 1200;
/// Of a ratio's row.
const ROW: u32 = 18;
/// For the names of ratios.
const NAMES: u32 = 720;

/// Each a bar from 1 to where it stands, to the right where we are ahead.
pub(crate) fn ratios(ratios: &[(String, f64)]) -> String {
    let mut drawing = String::new();
    let draw = |drawing: &mut String| -> Result<(), Box<dyn Error>> {
        let root = SVGBackend::with_string(drawing, (WIDTH, ROW * (ratios.len() as u32 + 4))).into_drawing_area();
        root.fill(&WHITE)?;
        let (least, most) = range(ratios.iter().map(|(_, ratio)| *ratio));
        let rows = ratios.len() as f64;
        let mut chart = ChartBuilder::on(&root)
            .caption("how many times as fast, or as small, as the peer", (FONT, 16))
            .margin(6)
            .x_label_area_size(ROW)
            .y_label_area_size(NAMES)
            .build_cartesian_2d((least.min(0.5)..most.max(2.0)).log_scale(), rows..0.0)?;
        chart.configure_mesh().disable_y_mesh().disable_y_axis().x_label_style((FONT, 11)).draw()?;
        let area = chart.plotting_area();
        for (row, (name, ratio)) in ratios.iter().enumerate() {
            let row = row as f64;
            let colour = if *ratio < 1.0 { RED } else { GREEN };
            let bar = [(ratio.min(1.0), row + 0.2), (ratio.max(1.0), row + 0.8)];
            area.draw(&Rectangle::new(bar, colour.mix(0.6).filled()))?;
            let (_, at) = area.map_coordinate(&(1.0, row + 0.25));
            root.draw(&Text::new(format!("{name}: {ratio:.2}"), (8, at), (FONT, 11)))?;
        }
        area.draw(&PathElement::new([(1.0, 0.0), (1.0, rows)], BLACK))?;
        root.present()?;
        Ok(())
    };
    draw(&mut drawing).unwrap_or_else(|error| panic!("cannot draw the ratios: {error}"));
    drawing
}

/// A line for each of those who were measured.
pub(crate) fn lines(series: &Series) -> String {
    let mut drawing = String::new();
    let points = || series.lines.iter().flat_map(|(_, points)| points);
    let (x, y) = (range(points().map(|point| point.0)), range(points().map(|point| point.1)));
    let drawn = if series.log {
        draw_lines(&mut drawing, series, (x.0..x.1).log_scale(), (y.0 / 2.0..y.1 * 2.0).log_scale())
    } else {
        draw_lines(&mut drawing, series, 0.0..x.1, 0.0..y.1 * 1.2)
    };
    drawn.unwrap_or_else(|error| panic!("cannot draw {}: {error}", series.what));
    drawing
}

fn draw_lines<X, Y>(drawing: &mut String, series: &Series, x: X, y: Y) -> Result<(), Box<dyn Error>>
where
    X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
{
    let root = SVGBackend::with_string(drawing, (WIDTH, WIDTH / 2)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&series.what, (FONT, 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(x, y)?;
    chart.configure_mesh().x_desc(series.of).y_desc(series.unit).label_style((FONT, 12)).draw()?;
    for (index, (name, points)) in series.lines.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).label_font((FONT, 12)).draw()?;
    root.present()?;
    Ok(())
}

/// From the least to the most, with something between them.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    if least < most { (least, most) } else { (least, least + 1.0) }
}

/// What a drawing's file is called.
pub(crate) fn file_name(what: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let name: String = what.chars().map(plain).collect();
    name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}
