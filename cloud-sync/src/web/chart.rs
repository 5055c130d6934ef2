//! Lines over time, as inline SVG.

use maud::{Markup, html};

use super::page::span;

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    /// What it shows.
    pub(super) label: String,
    /// Milliseconds since the Unix epoch, and value.
    pub(super) points: Vec<(u64, f64)>,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
/// Room for the numbers of the scale.
const LEFT: f64 = 60.0;
const EDGE: f64 = 8.0;

/// The rectangle of time and value that all lines fit into.
struct Frame {
    from_ms: u64,
    to_ms: u64,
    low: f64,
    high: f64,
}

impl Frame {
    fn of(series: &[Series]) -> Self {
        let points = || series.iter().flat_map(|series| &series.points);
        let from_ms = points().map(|(at_ms, _)| *at_ms).min().unwrap_or_default();
        let to_ms = points().map(|(at_ms, _)| *at_ms).max().unwrap_or_default();
        let low = points().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let high = points().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        // A flat line lies in the middle.
        let (low, high) = if low < high { (low, high) } else { (low - 1.0, low + 1.0) };
        Self { from_ms, to_ms: to_ms.max(from_ms + 1), low, high }
    }

    fn x(&self, at_ms: u64) -> f64 {
        let share = ratio(at_ms - self.from_ms, self.to_ms - self.from_ms);
        LEFT + share * (WIDTH - LEFT - EDGE)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        HEIGHT - EDGE - share * (HEIGHT - 2.0 * EDGE)
    }
}

/// Exact enough for a picture.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser than the loss")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Draws the lines with a scale and a legend.
pub(super) fn chart(series: &[Series]) -> Markup {
    let frame = Frame::of(series);
    let ticks = [frame.low, f64::midpoint(frame.low, frame.high), frame.high];
    let (begin, end) = (clock(frame.from_ms), clock(frame.to_ms));
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" {
            @for tick in ticks {
                @let y = format!("{:.1}", frame.y(tick));
                line.grid x1=(LEFT) x2=(WIDTH - EDGE) y1=(y) y2=(y) {}
                text x=(LEFT - 6.0) y=(y) text-anchor="end" dominant-baseline="middle" {
                    (scale(tick, frame.high - frame.low))
                }
            }
            @for (index, line) in series.iter().enumerate() {
                polyline class=(format!("line s{index}")) points=(points(line, &frame)) {}
            }
        }
        p.legend {
            @for (index, line) in series.iter().enumerate() {
                span {
                    span class=(format!("s{index}")) { (line.label) } " "
                    @if let Some((_, value)) = line.points.last() { (scale(*value, frame.high - frame.low)) }
                }
            }
            span.quiet { (begin) " to " (end) " UTC, " (span(frame.to_ms - frame.from_ms)) }
        }
    }
}

fn points(line: &Series, frame: &Frame) -> String {
    let point =
        |(at_ms, value): &(u64, f64)| format!("{:.1},{:.1}", frame.x(*at_ms), frame.y(*value));
    line.points.iter().map(point).collect::<Vec<_>>().join(" ")
}

/// Time of day in UTC.
fn clock(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    format!("{:02}:{:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

/// A number with as many places as its range needs.
fn scale(value: f64, range: f64) -> String {
    if range >= 50.0 {
        format!("{value:.0}")
    } else if range >= 5.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(u64, f64)]) -> Series {
        Series { label: "a".into(), points: points.to_vec() }
    }

    #[test]
    fn lines_stay_within_the_picture() {
        let lines = [line(&[(0, -5.0), (10, 5.0), (20, 1e300)]), line(&[(7, 0.0)])];
        let frame = Frame::of(&lines);
        for (at_ms, value) in lines.iter().flat_map(|line| &line.points) {
            assert!((LEFT..=WIDTH).contains(&frame.x(*at_ms)));
            assert!((0.0..=HEIGHT).contains(&frame.y(*value)));
        }
    }

    #[test]
    fn one_point_and_flat_lines_are_drawn() {
        let markup = chart(&[line(&[(5, 3.0)])]).into_string();
        assert!(markup.contains("polyline") && !markup.contains("NaN"), "{markup}");
    }
}
