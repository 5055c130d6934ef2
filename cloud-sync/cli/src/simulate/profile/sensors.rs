//! `[sensors.NAME]`.

use std::collections::BTreeMap;
use std::path::Path;

use edge_agent::toml_reader::{At, Problems, Section};

use super::{MS_PER_DAY, ReadCsv, Shape, TEMPERATURE, Waveform, is_sensor_name};
use crate::simulate::replay;

/// Values beyond are no measurement.
const VALUE_MAX: f64 = 1e9;
/// Shortest time from step to step, or of a wave.
const EVERY_MS_MIN: u64 = 100;

pub(super) fn read(
    root: &mut Section<'_, '_>,
    csv: ReadCsv<'_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Waveform> {
    let mut sensors = BTreeMap::new();
    for (name, mut section) in root.named_sections("sensors", problems) {
        if !is_sensor_name(&name.value) {
            problems.add(&name.span, "the name of a sensor is 1 to 64 of a-z A-Z 0-9 - _ .");
        }
        let waveform = waveform(&mut section, csv, problems);
        section.finish(problems);
        sensors.extend(waveform.map(|waveform| (name.value, waveform)));
    }
    if sensors.is_empty() {
        let shape = Shape::Sine { mean: 20.0, swing: 5.0, every_ms: 60_000 };
        sensors.insert(TEMPERATURE.to_owned(), Waveform { shape, noise: 0.1, spread: true });
    }
    sensors
}

fn waveform(
    section: &mut Section<'_, '_>,
    csv: ReadCsv<'_>,
    problems: &mut Problems<'_>,
) -> Option<Waveform> {
    let kind = section.required("waveform", problems);
    let noise = section.decimal("noise", 0.0..=VALUE_MAX, problems).unwrap_or(0.0);
    let spread = section.boolean("spread", problems).unwrap_or(true);
    let shape = match kind.value.as_str() {
        "constant" => Shape::Constant { value: value(section, "value", 20.0, problems) },
        "sine" => Shape::Sine {
            mean: value(section, "mean", 20.0, problems),
            swing: value(section, "swing", 5.0, problems),
            every_ms: every(section, 60_000, problems),
        },
        "ramp" => Shape::Ramp {
            from: value(section, "from", 0.0, problems),
            to: value(section, "to", 100.0, problems),
            every_ms: every(section, 60_000, problems),
        },
        "square" => Shape::Square {
            low: value(section, "low", 0.0, problems),
            high: value(section, "high", 1.0, problems),
            every_ms: every(section, 60_000, problems),
        },
        "walk" => walk(section, problems)?,
        "replay" => replay(section, csv, problems)?,
        // Its absence is told already.
        "" => return None,
        other => {
            let known = "\"constant\", \"sine\", \"ramp\", \"square\", \"walk\", \"replay\"";
            problems
                .add(&kind.span, format!("`waveform` is \"{other}\", but must be one of {known}"));
            return None;
        }
    };
    Some(Waveform { shape, noise, spread })
}

fn value(
    section: &mut Section<'_, '_>,
    key: &'static str,
    default: f64,
    problems: &mut Problems<'_>,
) -> f64 {
    section.decimal(key, -VALUE_MAX..=VALUE_MAX, problems).unwrap_or(default)
}

fn every(section: &mut Section<'_, '_>, default: u64, problems: &mut Problems<'_>) -> u64 {
    let range = EVERY_MS_MIN..=366 * MS_PER_DAY;
    section.duration_ms_within("every", range, problems).unwrap_or(default)
}

fn walk(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Shape> {
    let start = value(section, "start", 20.0, problems);
    let step = section.decimal("step", 0.0..=VALUE_MAX, problems).unwrap_or(0.1);
    let low = value(section, "low", start - 10.0, problems);
    let high = value(section, "high", start + 10.0, problems);
    let every_ms = every(section, 1_000, problems);
    if low > start || start > high {
        let order = "a walk needs `low` <= `start` <= `high`";
        problems.add(&section.span(), format!("{order}, but has {low}, {start}, {high}"));
        return None;
    }
    Some(Shape::Walk { start, step, low, high, every_ms })
}

fn replay(
    section: &mut Section<'_, '_>,
    csv: ReadCsv<'_>,
    problems: &mut Problems<'_>,
) -> Option<Shape> {
    let file = section.required("file", problems);
    let wanted = section.string("column", problems);
    let every_ms = every(section, 1_000, problems);
    let speed = section.decimal("speed", 0.001..=1e6, problems).unwrap_or(1.0);
    let scale = value(section, "scale", 1.0, problems);
    let offset = value(section, "offset", 0.0, problems);
    if file.value.is_empty() {
        return None;
    }
    let wanted = wanted.as_ref().map(|At { value, .. }| value.as_str());
    let values = csv(Path::new(&file.value)).and_then(|text| replay::column(&text, wanted));
    match values {
        Ok(values) => {
            let values = values.iter().map(|value| value * scale + offset).collect();
            Some(Shape::Replay { values, every_ms: every_ms as f64 / speed })
        }
        Err(why) => {
            problems.add(&file.span, format!("`file` \"{}\": {why}", file.value));
            None
        }
    }
}
