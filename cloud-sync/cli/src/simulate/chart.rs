//! A page of what happened over time: one HTML file with inline SVG, no script, nothing from elsewhere.

use std::fmt::Write as _;

use super::judge::Verdict;
use super::table::Moment;

/// Samples that are kept; above, every second one goes.
const SAMPLES_MAX: usize = 2_000;
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Lines across a chart.
const STEPS: u32 = 4;

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:2em auto;padding:0 1em}\
h1{font-size:1.4em}h2{font-size:1.05em;margin:1.6em 0 .2em}svg{width:100%;height:auto}\
text{font:12px system-ui,sans-serif;fill:#6b7280}.grid{stroke:#9ca3af;stroke-opacity:.35}\
.good{color:#059669}.bad{color:#dc2626}i{display:inline-block;width:1em;height:3px;margin:0 .4em 0 1em;vertical-align:middle}";

/// Keeps a sample; a long day is kept more thinly.
pub(super) fn keep(samples: &mut Vec<Moment>, moment: Moment) {
    if samples.len() >= SAMPLES_MAX {
        let mut n = 0;
        samples.retain(|_| {
            n += 1;
            n % 2 == 1
        });
    }
    samples.push(moment);
}

/// A value of each sample.
type Curve = (&'static str, &'static str, fn(&Moment) -> u64);

const READINGS: [Curve; 5] = [
    ("kept", "#6b7280", |it| it.kept),
    ("acknowledged", "#2563eb", |it| it.acked),
    ("seen by the subscriber", "#059669", |it| it.seen),
    ("by functions", "#d97706", |it| it.functions),
    ("in the control plane", "#9333ea", |it| it.cloud),
];
const DEVICES: [Curve; 2] = [
    ("online", "#059669", |it| it.online as u64),
    ("with a fault", "#dc2626", |it| it.faults as u64),
];

/// The page.
pub(super) fn page(samples: &[Moment], verdict: &Verdict, seed: u64) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>holm simulate</title>\
         <style>{STYLE}</style><h1>A simulated day, seed {seed}</h1><ul>"
    );
    for check in &verdict.checks {
        let (class, mark) = if check.offenders == 0 { ("good", "holds") } else { ("bad", "FAILS") };
        let _ = write!(html, "<li class=\"{class}\">{mark}: {}", escaped(&check.rule));
        if check.offenders > 0 {
            let first = escaped(&check.first.join(", "));
            let _ = write!(html, " ({} offend: {first})", check.offenders);
        }
        html.push_str("</li>");
    }
    for why in &verdict.not_judged {
        let _ = write!(html, "<li>not judged: {}</li>", escaped(why));
    }
    html.push_str("</ul>");
    chart("Readings", &READINGS, samples, &mut html);
    chart("Devices", &DEVICES, samples, &mut html);
    html.push_str("</html>\n");
    html
}

fn chart(title: &str, curves: &[Curve], samples: &[Moment], html: &mut String) {
    let _ = write!(html, "<h2>{title}</h2><div>");
    for (name, colour, _) in curves {
        let _ = write!(html, "<i style=\"background:{colour}\"></i>{name}");
    }
    let end_ms = samples.last().map_or(1, |last| last.at_ms).max(1);
    let all = samples.iter().flat_map(|sample| curves.iter().map(move |(_, _, of)| of(sample)));
    let top = round_up(all.max().unwrap_or(0).max(1));
    let x = |at_ms: u64| LEFT + (WIDTH - LEFT - 16.0) * at_ms as f64 / end_ms as f64;
    let y = |value: u64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value as f64 / top as f64;
    let _ = write!(html, "</div><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    for step in 0..=STEPS {
        let value = top * u64::from(step) / u64::from(STEPS);
        let (line, right, at_ms) =
            (y(value), WIDTH - 16.0, end_ms * u64::from(step) / u64::from(STEPS));
        let _ = write!(
            html,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.1} s</text>",
            LEFT - 6.0,
            line + 4.0,
            x(at_ms),
            HEIGHT - 8.0,
            at_ms as f64 / 1_000.0
        );
    }
    for (_, colour, of) in curves {
        let _ = write!(html, "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" d=\"");
        for (n, sample) in samples.iter().enumerate() {
            let verb = if n == 0 { 'M' } else { 'L' };
            let _ = write!(html, "{verb}{:.1} {:.1}", x(sample.at_ms), y(of(sample)));
        }
        html.push_str("\"/>");
    }
    html.push_str("</svg>");
}

/// To one digit and zeros, and a multiple of the steps.
fn round_up(most: u64) -> u64 {
    let mut power = 1;
    while power * 10 <= most {
        power *= 10;
    }
    (most.div_ceil(power) * power).next_multiple_of(u64::from(STEPS))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::judge::Check;

    #[test]
    fn a_page_has_its_curves_and_names_cannot_break_it() {
        let samples: Vec<_> = (0..3)
            .map(|n| Moment { at_ms: n * 1_000, kept: n * 10, ..Moment::default() })
            .collect();
        let first = vec!["\"x\"".to_owned()];
        let bad = Check { rule: "<b>".to_owned(), offenders: 1, first, may_mend: false };
        let html = page(&samples, &Verdict { checks: vec![bad], not_judged: Vec::new() }, 7);
        assert!(html.contains("M64.0 220.0L504.0 116.0L944.0 12.0"), "{html}");
        assert!(html.contains("&lt;b&gt;") && !html.contains("<b>") && !html.contains("http"));
    }

    #[test]
    fn a_long_day_is_kept_more_thinly() {
        let mut samples = Vec::new();
        for at_ms in 0..5_000 {
            keep(&mut samples, Moment { at_ms, ..Moment::default() });
        }
        assert!(samples.len() <= SAMPLES_MAX);
        assert_eq!((samples[0].at_ms, samples.last().unwrap().at_ms), (0, 4_999));
        assert_eq!([1, 7, 19, 950].map(round_up), [4, 8, 20, 1_000]);
    }
}
