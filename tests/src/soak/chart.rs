//! A page of line charts as one HTML file: inline SVG, no script, nothing from elsewhere.

use std::fmt::Write;

use super::report::Event;

/// A curve.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// Seconds and values.
    pub(super) points: Vec<(f64, f64)>,
}

/// Some curves over time.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    pub(super) lines: Vec<Line<'a>>,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Points of a curve that are drawn: of each stretch the highest.
const DRAWN_MAX: usize = 800;
/// Samples farther apart than this are not joined: the process was down.
const GAP_S: f64 = 4.0;
const COLOURS: [&str; 4] = ["#2563eb", "#d97706", "#059669", "#9333ea"];

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1f2937;--soft:#6b7280;--grid:#e5e7eb;--paper:#fff;--bad:#dc2626;--good:#059669}
@media(prefers-color-scheme:dark){:root{--ink:#e5e7eb;--soft:#9ca3af;--grid:#374151;--paper:#111827}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:980px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em;margin:0 0 .5em}h2{font-size:1.05em;margin:2em 0 .3em}
table{border-collapse:collapse}td{padding:.15em 1em .15em 0;border-bottom:1px solid var(--grid)}td:last-child{text-align:right;font-variant-numeric:tabular-nums}
.good{color:var(--good)}.bad{color:var(--bad)}.verdict{font-size:1.15em;font-weight:600}
ul{padding-left:1.2em}svg{width:100%;height:auto;display:block}
text{fill:var(--soft);font:12px system-ui,sans-serif}.axis{stroke:var(--soft)}.grid{stroke:var(--grid)}
.event{stroke:var(--bad);stroke-width:1;stroke-dasharray:2 3;opacity:.55}.event:hover{opacity:1;stroke-width:3}
.legend{display:flex;gap:1.2em;font-size:13px;color:var(--soft)}.legend i{display:inline-block;width:1em;height:3px;vertical-align:middle;margin-right:.4em}
.events{font-size:13px;columns:2;color:var(--soft)}";

/// The page.
pub(super) fn page(
    title: &str,
    rows: &[(String, String)],
    trends: &[(String, bool)],
    problems: &[String],
    charts: &[Chart],
    events: &[Event],
) -> String {
    let mut html = String::new();
    let title = escape(title);
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1>"
    );
    if problems.is_empty() {
        html.push_str("<p class=\"verdict good\">Nothing lost, nothing twice, curves flat.</p>");
    } else {
        html.push_str("<p class=\"verdict bad\">Not as it has to be:</p><ul>");
        for problem in problems {
            let _ = write!(html, "<li class=\"bad\">{}</li>", escape(problem));
        }
        html.push_str("</ul>");
    }
    html.push_str("<table>");
    for (name, value) in rows {
        let _ = write!(html, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
    }
    html.push_str("</table>");
    for chart in charts {
        draw(chart, events, &mut html);
    }
    html.push_str("<h2>Growth within the last life of each process, after its warm-up</h2><ul>");
    for (text, is_flat) in trends {
        let class = if *is_flat { "good" } else { "bad" };
        let _ = write!(html, "<li class=\"{class}\">{}</li>", escape(text));
    }
    html.push_str("</ul><h2>What happened</h2><ol class=\"events\">");
    for event in events.iter().filter(|event| event.marked) {
        let _ = write!(html, "<li>{} {}</li>", clock(event.at_s), escape(&event.what));
    }
    html.push_str("</ol></html>\n");
    html
}

fn draw(chart: &Chart, events: &[Event], html: &mut String) {
    let _ = write!(html, "<h2>{} <small>[{}]</small></h2>", escape(chart.title), chart.unit);
    legend(chart, html);
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let end_s = points().map(|(at, _)| *at).fold(1.0, f64::max);
    let (top, step) = scale(points().map(|(_, value)| *value).fold(0.0, f64::max), 5.0);
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at / end_s;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top;
    let title = escape(chart.title);
    let _ =
        write!(html, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">");
    let mut value = 0.0;
    while value <= top + step / 2.0 {
        let (at, x2, text) = (y(value), WIDTH - RIGHT, label(value, step));
        let _ = write!(
            html,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{x2}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            LEFT - 6.0,
            at + 4.0
        );
        value += step;
    }
    times(end_s, &x, html);
    for event in events.iter().filter(|event| event.marked && event.at_s <= end_s) {
        let (at, y2) = (x(event.at_s), HEIGHT - BOTTOM);
        let _ = write!(
            html,
            "<line class=\"event\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{y2}\">\
             <title>{} {}</title></line>",
            clock(event.at_s),
            escape(&event.what)
        );
    }
    for (line, colour) in chart.lines.iter().zip(COLOURS.iter().cycle()) {
        let path = path(&line.points, &x, &y);
        let _ = write!(
            html,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" \
             stroke-linejoin=\"round\"/>"
        );
    }
    html.push_str("</svg>");
}

fn legend(chart: &Chart, html: &mut String) {
    html.push_str("<div class=\"legend\">");
    for (line, colour) in chart.lines.iter().zip(COLOURS.iter().cycle()) {
        let name = escape(line.name);
        let _ = write!(html, "<span><i style=\"background:{colour}\"></i>{name}</span>");
    }
    html.push_str("<span><i style=\"background:var(--bad)\"></i>event (hover)</span></div>");
}

/// The time axis.
fn times(end_s: f64, x: &impl Fn(f64) -> f64, html: &mut String) {
    let base = HEIGHT - BOTTOM;
    let _ = write!(
        html,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{base}\" y2=\"{base}\"/>",
        WIDTH - RIGHT
    );
    let steps = [5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0];
    let step = steps.into_iter().find(|step| end_s / step <= 12.0).unwrap_or(86_400.0);
    let mut at = 0.0;
    while at <= end_s {
        let _ = write!(
            html,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            x(at),
            base + 16.0,
            clock(at)
        );
        at += step;
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ = write!(
        html,
        "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">time since the start [min:s]</text>",
        HEIGHT - 6.0
    );
}

/// A path through the points, thinned, and broken where the process was down.
fn path(points: &[(f64, f64)], x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut last = f64::MIN;
    for stretch in points.chunks(points.len().div_ceil(DRAWN_MAX).max(1)) {
        let Some((at, value)) = stretch.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)) else {
            continue;
        };
        let verb = if at - last > GAP_S.max(stretch.len() as f64 * GAP_S) { 'M' } else { 'L' };
        let _ = write!(path, "{verb}{:.1} {:.1}", x(at), y(value));
        last = at;
    }
    path
}

/// The end of an axis and its step, both round, for values up to `most`.
fn scale(most: f64, lines: f64) -> (f64, f64) {
    let raw = most.max(1e-3) / lines;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= raw);
    let step = step.unwrap_or(raw);
    ((most / step).ceil().max(1.0) * step, step)
}

fn label(value: f64, step: f64) -> String {
    if step >= 1.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn clock(at_s: f64) -> String {
    let whole = at_s.round();
    format!("{:.0}:{:02.0}", (whole / 60.0).floor(), whole % 60.0)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round_and_hold_the_values() {
        for (most, expected) in
            [(0.7, (0.8, 0.2)), (97.0, (100.0, 20.0)), (1_234.0, (1_500.0, 500.0))]
        {
            let (top, step) = scale(most, 5.0);
            assert!(
                (top - expected.0).abs() < 1e-9 && (step - expected.1).abs() < 1e-9,
                "{most}: {top} {step}"
            );
        }
        assert!(scale(0.0, 5.0).0 > 0.0);
        assert_eq!(
            (clock(0.0), clock(59.6), clock(3_725.0)),
            ("0:00".into(), "1:00".into(), "62:05".into())
        );
    }

    #[test]
    fn a_curve_breaks_where_the_process_was_down() {
        let points = [(0.0, 1.0), (1.0, 2.0), (20.0, 3.0), (21.0, 4.0)];
        assert_eq!(path(&points, &|at| at, &|value| value), "M0.0 1.0L1.0 2.0M20.0 3.0L21.0 4.0");
    }

    #[test]
    fn names_cannot_break_the_page() {
        let event = Event { at_s: 1.0, what: "<b>".to_owned(), marked: true };
        let lines = vec![Line { name: "a & \"b\"", points: vec![(0.0, 1.0), (2.0, 2.0)] }];
        let chart = Chart { title: "t", unit: "MiB", lines };
        let html = page("<x>", &[], &[], &["<script>".to_owned()], &[chart], &[event]);
        assert!(html.contains("&lt;b&gt;") && html.contains("a &amp; &quot;b&quot;"));
        assert!(!html.contains("<script") && !html.contains("<x>") && !html.contains("http"));
    }
}
