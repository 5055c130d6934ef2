//! What a fleet is like: a TOML file. Each key is explained in `docs/simulate.md`.
//!
//! # Invariants
//! - All problems of a file are reported at once, each with its line; an unknown key names the nearest known one.
//! - Durations and shares lie within the bounds given here, so that nothing that follows has to check them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use device_protocol::DeviceName;
use edge_agent::toml_reader::{At, Problem, Problems, Section};

use super::waveform::{Shape, Waveform};

mod faults;
mod sensors;

pub(super) use faults::{Clock, Fault, FaultKind, Hostile};

/// The profile that is used without a file, and that `holm simulate profile` prints.
pub(super) const WORKSHOP: &str = include_str!("../../profiles/workshop.toml");

/// No honest profile is longer.
pub(super) const BYTES_MAX: u64 = 1 << 20;
/// Largest CSV file that is replayed.
pub(super) const CSV_BYTES_MAX: u64 = 64 << 20;
/// The sensor that is published as a `Reading`, and that an emulated board has.
pub(super) const TEMPERATURE: &str = "temperature";

const MS_PER_DAY: u64 = 86_400_000;
const SENSORS_MAX: usize = 16;

/// How readings go over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MessageKind {
    /// In an envelope of the device protocol, the typed message `reading` of the examples: the temperature alone.
    #[default]
    Reading,
    /// In an envelope, all sensors as a JSON object, without a schema.
    Json,
    /// All sensors as a JSON object, and nothing around it; numbered in user properties.
    Plain,
}

/// The content of a profile.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Profile {
    /// From reading to reading.
    pub(super) period_ms: u64,
    /// Topic of readings; `{device}` stands for the name.
    pub(super) topic: String,
    /// Form of readings.
    pub(super) message: MessageKind,
    /// Within this time all devices come, one after the other.
    pub(super) join_ms: u64,
    /// Bytes of readings that a virtual device keeps for the gateway.
    pub(super) queue_bytes: u64,
    /// Whether its queue outlives a power cut, as flash does.
    pub(super) queue_survives: bool,
    /// Longest wait between two attempts to connect.
    pub(super) backoff_max_ms: u32,
    /// What it measures, by name.
    pub(super) sensors: BTreeMap<String, Waveform>,
    /// What happens to devices.
    pub(super) faults: Vec<Fault>,
    /// Wrong clocks.
    pub(super) clock: Option<Clock>,
    /// Devices that do not behave.
    pub(super) hostile: Option<Hostile>,
    /// Topics of what functions publish about readings.
    pub(super) functions: Option<String>,
    /// Emulated boards.
    pub(super) qemu: Qemu,
}

/// How QEMU is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Qemu {
    /// Its name of the machine.
    pub(super) machine: String,
    /// Words for the firmware.
    pub(super) arguments: Vec<String>,
}

/// Reads the files that a profile names: path to text.
pub(super) type ReadCsv<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

impl Profile {
    /// Reads the text of a profile; CSV files are asked of `read_csv`.
    ///
    /// # Errors
    /// All problems, in the order of the file.
    pub(super) fn parse(text: &str, read_csv: ReadCsv<'_>) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(text);
        let Some(table) = problems.parse() else { return Err(problems.into_sorted()) };
        let mut root = Section::root(&table);
        let profile = read(&mut root, read_csv, &mut problems);
        root.finish(&mut problems);
        if problems.is_empty() { Ok(profile) } else { Err(problems.into_sorted()) }
    }

    /// Topic of a device's readings.
    pub(super) fn topic_of(&self, device: &str) -> String {
        self.topic.replace("{device}", device)
    }

    /// Whose readings are on a topic.
    pub(super) fn device_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let mut levels = self.topic.split('/').zip(topic.split('/'));
        levels.find_map(|(mine, its)| (mine == "{device}").then_some(its))
    }

    /// Filter that covers the readings of all devices.
    pub(super) fn readings_filter(&self) -> String {
        let levels = self.topic.split('/');
        let levels: Vec<_> =
            levels.map(|level| if level.contains("{device}") { "+" } else { level }).collect();
        levels.join("/")
    }
}

fn read(root: &mut Section<'_, '_>, csv: ReadCsv<'_>, problems: &mut Problems<'_>) -> Profile {
    let period_ms = root.duration_ms_within("period", 10..=MS_PER_DAY, problems).unwrap_or(1_000);
    let topic = read_topic(root, problems);
    let message = read_message(root, problems);
    let join_ms = root.duration_ms_within("join", 0..=MS_PER_DAY, problems).unwrap_or(5_000);
    let queue = root.bytes_within("queue", 1_024..=16 << 20, problems);
    let queue_survives = root.boolean("queue_survives", problems).unwrap_or(true);
    let backoff = root.duration_ms_within("backoff_max", 500..=3_600_000, problems);
    let span = root.span();
    let sensors = sensors::read(root, csv, problems);
    if sensors.len() > SENSORS_MAX {
        problems.add(&span, format!("a device has at most {SENSORS_MAX} sensors"));
    }
    if message == MessageKind::Reading && !sensors.contains_key(TEMPERATURE) {
        let why = "`message = \"reading\"` carries the temperature: name a sensor [sensors.temperature], \
                   or write `message = \"json\"` or `\"plain\"`";
        problems.add(&span, why);
    }
    let faults = faults::read(root, problems);
    let clock = faults::clock(root, problems);
    let hostile = faults::hostile(root, problems);
    let functions = read_watch(root, problems);
    Profile {
        period_ms,
        topic,
        message,
        join_ms,
        queue_bytes: queue.unwrap_or(64 << 10),
        queue_survives,
        backoff_max_ms: backoff.and_then(|ms| u32::try_from(ms).ok()).unwrap_or(5_000),
        sensors,
        faults,
        clock,
        hostile,
        functions,
        qemu: read_qemu(root, problems),
    }
}

fn read_topic(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> String {
    let Some(At { value, span }) = root.string("topic", problems) else {
        return "sensors/{device}".to_owned();
    };
    let is_bad = value.contains(['+', '#', '\0']) || value.starts_with('$') || value.len() > 100;
    if is_bad || !value.split('/').any(|level| level == "{device}") {
        let wanted =
            "a topic of up to 100 bytes with a level `{device}`, such as \"sensors/{device}\"";
        problems.add(&span, format!("`topic` must be {wanted}"));
    }
    value
}

fn read_message(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> MessageKind {
    let Some(At { value, span }) = root.string("message", problems) else {
        return MessageKind::default();
    };
    match value.as_str() {
        "reading" => MessageKind::Reading,
        "json" => MessageKind::Json,
        "plain" => MessageKind::Plain,
        _ => {
            problems.add(&span, "`message` must be one of \"reading\", \"json\", \"plain\"");
            MessageKind::default()
        }
    }
}

fn read_watch(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<String> {
    let mut section = root.section("watch", problems)?;
    let filter = section.string("functions", problems);
    section.finish(problems);
    let At { value, span } = filter?;
    if let Err(error) = sync_protocol::filter::check_filter(&value) {
        problems.add(&span, format!("`functions`: topic filter `{value}` {error}"));
    }
    Some(value)
}

fn read_qemu(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Qemu {
    let mut qemu = Qemu { machine: "mps2-an385".to_owned(), arguments: Vec::new() };
    let Some(mut section) = root.section("qemu", problems) else { return qemu };
    if let Some(At { value, span }) = section.string("machine", problems) {
        if !value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            problems
                .add(&span, "`machine` must be a name that `qemu-system-arm -machine help` lists");
        }
        qemu.machine = value;
    }
    for At { value, span } in section.strings("arguments", problems) {
        if value.contains([',', ' ']) {
            problems.add(&span, "`arguments`: a word for the firmware has no comma and no space");
        }
        qemu.arguments.push(value);
    }
    section.finish(problems);
    qemu
}

/// A share of something: 0 to 1.
fn share(section: &mut Section<'_, '_>, key: &'static str, problems: &mut Problems<'_>) -> f64 {
    section.decimal(key, 0.0..=1.0, problems).unwrap_or(0.0)
}

/// The folder that paths in a profile are relative to, and a path in it.
pub(super) fn beside(profile: Option<&Path>, path: &Path) -> PathBuf {
    match profile.and_then(Path::parent) {
        Some(dir) => dir.join(path),
        None => path.to_owned(),
    }
}

/// Whether a name can be that of a sensor: it stands in JSON and on the command line.
fn is_sensor_name(name: &str) -> bool {
    DeviceName::new(name).is_ok()
}

#[cfg(test)]
mod tests;
