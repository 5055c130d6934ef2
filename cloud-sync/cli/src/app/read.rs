//! From the text of a `holm.toml` to an [`App`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use sync_protocol::filter::{FilterError, check_filter, check_grant, overlap};
use sync_protocol::id::check_name;
use sync_protocol::limits;
use sync_protocol::manifest::{
    Durability, Grants, Jitter, Limits, MissedSlots, MqttSource, Ordered, Pause, Retry, Schedule,
    ScheduleSource, Source as TriggerSource, Trigger, WhenFull,
};

use super::destinations;
use super::order::{no_level, read_order};
use super::update::{AGENT, SYSTEM};
use super::values::{DURATION, SIZE, choose, in_range, needed, one_of, small};
use super::{App, Function, Source, Version};
pub use edge_agent::toml_reader::Problem;
use edge_agent::toml_reader::{At, Problems, Section};

pub(super) fn parse(text: &str) -> Result<App, Vec<Problem>> {
    let mut problems = Problems::new(text);
    let Some(table) = problems.parse() else { return Err(problems.into_sorted()) };
    let mut root = Section::root(&table);
    let head = read_head(&mut root, &mut problems);
    let functions = read_functions(&mut root, &mut problems);
    let firmware = super::firmware::read(&mut root, &mut problems);
    let has = |table: &str| root.span_of(table) != root.span();
    let updates_gateways = has("agent") || has("system");
    let agent = super::update::read(&mut root, &AGENT, &mut problems);
    let system = super::update::read(&mut root, &SYSTEM, &mut problems);
    let taken = |name: &str| firmware.contains_key(name);
    let device_functions =
        super::device_function::read(&mut root, &functions, taken, &mut problems);
    // What devices run needs nothing that wakes it on the gateway.
    let on_devices = device_functions.values().map(|one| one.function.clone()).collect();
    let triggers = read_triggers(&mut root, &functions, on_devices, &mut problems);
    let records = super::series::read(&mut root, &functions, &mut problems);
    if functions.is_empty() && firmware.is_empty() && !updates_gateways {
        problems.add(&(0..0), "the app has no function: add [functions.NAME]");
    }
    root.finish(&mut problems);
    match head {
        Some((name, version, floor)) if problems.is_empty() => {
            let functions = functions.into_iter().map(|(name, at)| (name, at.value)).collect();
            Ok(App {
                name,
                version,
                floor,
                functions,
                triggers,
                records,
                firmware,
                device_functions,
                agent,
                system,
            })
        }
        Some(_) | None => Err(problems.into_sorted()),
    }
}

type Head = (String, Version, Option<Version>);

fn read_head(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Head> {
    let Some(mut app) = root.section("app", problems) else {
        problems.add(&(0..0), "the file needs [app] with `name` and `version`");
        return None;
    };
    let name = needed(&mut app, "name", problems);
    if let Some(at) = &name {
        name_is_good("name", at, problems);
    }
    let version = needed(&mut app, "version", problems);
    let version = version.and_then(|at| read_version("version", &at, problems));
    let floor_text = app.string("floor", problems);
    let floor = floor_text.as_ref().and_then(|at| read_version("floor", at, problems));
    if let (Some(floor), Some(version), Some(at)) = (floor, version, &floor_text)
        && floor > version
    {
        problems.add(&at.span, format!("`floor` {floor} is above `version` {version}"));
    }
    app.finish(problems);
    Some((name?.value, version?, floor))
}

pub(super) fn read_version(
    key: &str,
    at: &At<String>,
    problems: &mut Problems<'_>,
) -> Option<Version> {
    let version = at.value.parse().ok().filter(|version: &Version| version.sequence() > 0);
    if version.is_none() {
        let wanted = "three numbers below 65536 such as \"1.0.0\", above 0.0.0";
        problems.add(&at.span, format!("`{key}` must be {wanted}"));
    }
    version
}

fn read_functions(
    root: &mut Section<'_, '_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, At<Function>> {
    let mut functions = BTreeMap::new();
    for (name, mut section) in root.named_sections("functions", problems) {
        name_is_good("function name", &name, problems);
        let function = read_function(&mut section, problems);
        let at = At { value: function, span: section.span() };
        section.finish(problems);
        functions.insert(name.value, at);
    }
    let max = limits::FUNCTIONS_MAX;
    if functions.len() > max {
        problems.add(&(0..0), format!("an app has at most {max} functions"));
    }
    functions
}

fn read_function(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Function {
    let source = read_code(section, problems);
    let (state, ordered) = read_order(section, problems);
    let one_lane = state.lanes(ordered.as_deref()) == Some(Ordered::Function);
    let limits = read_limits(section, one_lane, problems);
    let publish = section.strings("publish", problems);
    filters_are_good("publish", &publish, check_grant, problems);
    let record = section.strings("record", problems);
    let texts = |list: Vec<At<String>>| list.into_iter().map(|at| at.value).collect();
    Function {
        source,
        limits,
        state,
        state_version: small(section.number("state_version", 1..=u32::MAX.into(), problems))
            .unwrap_or(1),
        when_full: one_of(section, "when_full", &WHEN_FULL, problems),
        grants: Grants { publish: texts(publish), record: texts(record) },
        config: section.texts("config", problems),
        ordered,
        pause: read_pause(section, problems),
    }
}

fn read_code(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Source {
    let path = section.string("path", problems);
    let example = section.string("example", problems);
    let Some(wasm) = section.string("wasm", problems) else {
        let path = path.map_or_else(|| PathBuf::from("."), |at| PathBuf::from(at.value));
        return Source::Package { path, example: example.map(|at| at.value) };
    };
    if path.is_some() || example.is_some() {
        problems.add(&wasm.span, "a function has `wasm` or `path` and `example`, not both");
    }
    Source::Wasm(PathBuf::from(wasm.value))
}

fn read_limits(
    section: &mut Section<'_, '_>,
    one_lane: bool,
    problems: &mut Problems<'_>,
) -> Limits {
    let default = Limits::default();
    let concurrency_span = section.span_of("concurrency");
    let mut bytes = |key, low: u64, high: u64| in_range(section, key, SIZE, low..=high, problems);
    let memory = bytes("memory", limits::MEMORY_BYTES_MIN, limits::MEMORY_BYTES_MAX);
    let stack = bytes("stack", limits::STACK_BYTES_MIN.into(), limits::STACK_BYTES_MAX.into());
    let publish = bytes("publish_bytes", 0, limits::PUBLISH_BYTES_MAX.into());
    let record = bytes("record_bytes", 0, limits::RECORD_BYTES_MAX.into());
    let log = bytes("log_bytes", 0, limits::LOG_BYTES_MAX.into());
    let write = bytes("state_write_bytes", 0, limits::STATE_WRITE_BYTES_MAX.into());
    let state_bytes = bytes("state_bytes", 0, limits::STATE_BYTES_MAX);
    let time = in_range(section, "time", DURATION, 1..=limits::TIME_MS_MAX.into(), problems);
    let mut number = |key, low, high: u64| section.number(key, low..=high, problems);
    let publishes = number("publishes", 0, limits::PUBLISHES_MAX.into());
    let records = number("records", 0, limits::RECORDS_MAX.into());
    let concurrency = number("concurrency", 1, limits::CONCURRENCY_MAX.into());
    let most = concurrency.unwrap_or(default.concurrency.into());
    let reserved = number("reserved", 0, most);
    if one_lane && concurrency.is_some_and(|n| n > 1) {
        let why = "all events of the function are in one lane, so `concurrency` must be 1";
        problems.add(&concurrency_span, why);
    }
    Limits {
        memory_bytes: memory.unwrap_or(default.memory_bytes),
        time_ms: small(time).unwrap_or(default.time_ms),
        stack_bytes: small(stack).unwrap_or(default.stack_bytes),
        publishes: small(publishes).unwrap_or(default.publishes),
        publish_bytes: small(publish).unwrap_or(default.publish_bytes),
        records: small(records).unwrap_or(default.records),
        record_bytes: small(record).unwrap_or(default.record_bytes),
        log_bytes: small(log).unwrap_or(default.log_bytes),
        state_write_bytes: small(write).unwrap_or(default.state_write_bytes),
        state_bytes: state_bytes.unwrap_or(default.state_bytes),
        concurrency: small(concurrency).unwrap_or(default.concurrency),
        reserved: small(reserved).unwrap_or(default.reserved),
    }
}

fn read_pause(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Pause {
    let default = Pause::default();
    let after = section.number("pause_after", 1..=limits::PAUSE_AFTER_MAX.into(), problems);
    let most = limits::PAUSE_MS_MOST;
    let shortest = limits::PAUSE_MS_LEAST..=most;
    let ms_min = in_range(section, "pause_min", DURATION, shortest, problems);
    let ms_min = ms_min.unwrap_or(default.ms_min);
    let ms_max = in_range(section, "pause_max", DURATION, ms_min..=most, problems);
    Pause {
        after: small(after).unwrap_or(default.after),
        ms_min,
        ms_max: ms_max.unwrap_or(default.ms_max.max(ms_min)),
    }
}

const WHEN_FULL: [(&str, WhenFull); 4] = [
    ("hold", WhenFull::Hold),
    ("shed-newest", WhenFull::ShedNewest),
    ("shed-oldest", WhenFull::ShedOldest),
    ("latest-per-key", WhenFull::LatestPerKey),
];
const MISSED: [(&str, MissedSlots); 2] = [("skip", MissedSlots::Skip), ("once", MissedSlots::Once)];
const JITTER: [(&str, Jitter); 2] = [("none", Jitter::None), ("full", Jitter::Full)];
const DURABILITY: [(&str, Durability); 2] =
    [("prompt", Durability::Prompt), ("thrifty", Durability::Thrifty)];

fn read_triggers(
    root: &mut Section<'_, '_>,
    functions: &BTreeMap<String, At<Function>>,
    mut woken: Vec<String>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Trigger> {
    let mut triggers = BTreeMap::new();
    for mut section in root.sections("triggers", problems) {
        let function = needed(&mut section, "function", problems);
        if let Some(at) = &function {
            woken.push(at.value.clone());
        }
        let name = trigger_name(&mut section, function.as_ref(), &triggers, problems);
        if let Some(trigger) = read_trigger(&mut section, function, functions, problems) {
            let told = [&trigger.on_success, &trigger.on_failure].into_iter().flatten();
            woken.extend(told.filter_map(|told| told.function.clone()));
            triggers.insert(name, trigger);
        }
        section.finish(problems);
    }
    let max = limits::TRIGGERS_MAX;
    if triggers.len() > max {
        problems.add(&(0..0), format!("an app has at most {max} triggers"));
    }
    // A misspelt name is one mistake, not two.
    let misspelt = woken.iter().any(|name| !functions.contains_key(name));
    for (name, at) in functions {
        if !misspelt && !woken.contains(name) {
            problems.add(&at.span, format!("nothing wakes `{name}`: add [[triggers]] for it"));
        }
    }
    triggers
}

fn read_trigger(
    section: &mut Section<'_, '_>,
    function: Option<At<String>>,
    functions: &BTreeMap<String, At<Function>>,
    problems: &mut Problems<'_>,
) -> Option<Trigger> {
    let known = function.as_ref().and_then(|at| functions.get(&at.value));
    if let (None, Some(at)) = (known, &function) {
        no_function(at, functions, problems);
    }
    let retry = read_retry(section, problems);
    let told = ["on_success", "on_failure"].map(|key| {
        destinations::read(section, key, known.map(|at| &at.value), functions, problems)
    });
    let batch_span = section.span_of("batch");
    let source = read_source(section, problems)?;
    super::batch::is_in_time(&batch_span, &source, &retry, problems);
    if let (TriggerSource::Mqtt(source), Some(known), Some(name)) = (&source, known, &function) {
        no_level(name, known, &source.topics, problems);
        if !source.allow_loop {
            no_loop(name, known, &source.topics, problems);
        }
    }
    let [on_success, on_failure] = told;
    Some(Trigger { function: function?.value, source, retry, on_success, on_failure })
}

/// The name that was given, or the function's: `smooth`, `smooth-2`, `smooth-3`.
fn trigger_name(
    section: &mut Section<'_, '_>,
    function: Option<&At<String>>,
    earlier: &BTreeMap<String, Trigger>,
    problems: &mut Problems<'_>,
) -> String {
    if let Some(at) = section.string("name", problems) {
        name_is_good("trigger name", &at, problems);
        if earlier.contains_key(&at.value) {
            problems.add(&at.span, format!("two triggers are named `{}`", at.value));
        }
        return at.value;
    }
    let function = function.map_or("", |at| at.value.as_str());
    std::iter::once(function.to_owned())
        .chain((2..).map(|n| format!("{function}-{n}")))
        .find(|name| !earlier.contains_key(name))
        .unwrap_or_default()
}

fn read_source(
    section: &mut Section<'_, '_>,
    problems: &mut Problems<'_>,
) -> Option<TriggerSource> {
    let topics = section.strings("mqtt", problems);
    let schedule = section.string("schedule", problems);
    let missed = section.string("missed", problems);
    let span = |key| section.span_of(key);
    let (loop_span, durability_span) = (span("allow_loop"), span("durability"));
    let (filter_span, batch_span) = (span("filter"), span("batch"));
    let filter = super::patterns::read(section, problems);
    let batch = super::batch::read(section, problems);
    let durability = section.string("durability", problems);
    let allow_loop = section.boolean("allow_loop", problems);
    filters_are_good("mqtt", &topics, check_filter, problems);
    let mut only_with = |kind: &str, key: &str, span: &Range<usize>| {
        problems.add(span, format!("`{key}` goes with `{kind}`"));
    };
    match (topics.first(), schedule) {
        (Some(first), Some(_)) => {
            problems.add(&first.span, "a trigger has `mqtt` or `schedule`, not both");
            None
        }
        (None, None) => {
            let needs = "`mqtt = [\"some/topic\"]` or `schedule = \"rate(5 minutes)\"`";
            problems.add(&section.span(), format!("the trigger needs {needs}"));
            None
        }
        (Some(_), None) => {
            if let Some(at) = missed {
                only_with("schedule", "missed", &at.span);
            }
            let durability =
                durability.and_then(|at| choose("durability", &at, &DURABILITY, problems));
            Some(TriggerSource::Mqtt(MqttSource {
                topics: topics.into_iter().map(|at| at.value).collect(),
                durability: durability.unwrap_or_default(),
                allow_loop: allow_loop.unwrap_or(false),
                filter: filter.unwrap_or_default(),
                batch,
            }))
        }
        (None, Some(at)) => {
            if allow_loop.is_some() {
                only_with("mqtt", "allow_loop", &loop_span);
            }
            if durability.is_some() {
                only_with("mqtt", "durability", &durability_span);
            }
            if filter.is_some() {
                only_with("mqtt", "filter", &filter_span);
            }
            if batch.is_some() {
                let why = "`batch` goes with `mqtt`: a slot of a schedule is one event";
                problems.add(&batch_span, why);
            }
            Some(TriggerSource::Schedule(schedule_source(at, missed, problems)))
        }
    }
}

fn schedule_source(
    at: At<String>,
    missed: Option<At<String>>,
    problems: &mut Problems<'_>,
) -> ScheduleSource {
    if let Err(error) = Schedule::parse(&at.value) {
        problems.add(&at.span, format!("`schedule` \"{}\": {error}", at.value));
    }
    let missed = missed.and_then(|at| choose("missed", &at, &MISSED, problems));
    ScheduleSource { expression: at.value, missed: missed.unwrap_or_default() }
}

/// A function that can wake itself would run for ever; the gateway refuses it, so say it here.
fn no_loop(
    name: &At<String>,
    function: &At<Function>,
    topics: &[String],
    problems: &mut Problems<'_>,
) {
    let grants = &function.value.grants.publish;
    let valid = |filter: &&String| check_filter(filter).is_ok();
    let meeting = topics.iter().filter(valid).find_map(|topic| {
        let grant = grants.iter().filter(valid).find(|grant| overlap(topic, grant))?;
        Some((topic, grant))
    });
    if let Some((topic, grant)) = meeting {
        let name = &name.value;
        problems.add(
            &function.span,
            format!(
                "`{name}` may publish to `{grant}` and is woken by `{topic}`: it could wake \
                 itself; narrow one of them, or set `allow_loop = true` in the trigger"
            ),
        );
    }
}

fn read_retry(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Retry {
    let default = Retry::default();
    let retries = section.number("retries", 0..=limits::RETRIES_MAX.into(), problems);
    let ages = limits::AGE_MS_MIN..=limits::AGE_MS_MAX;
    let age = in_range(section, "max_age", DURATION, ages, problems);
    let list = section.strings("backoff", problems);
    let max = usize::from(limits::RETRIES_MAX);
    if list.len() > max {
        problems.add(&list[max].span, format!("`backoff` has at most {max} entries"));
    }
    let waits: Vec<u64> = list
        .iter()
        .filter_map(|at| {
            let parsed = edge_agent::toml_reader::parse_duration_ms(&at.value);
            if parsed.is_none_or(|ms| ms > limits::BACKOFF_MS_MAX) {
                problems.add(&at.span, "`backoff` holds durations such as \"10 s\", up to 6 h");
            }
            parsed
        })
        .collect();
    Retry {
        retries_max: small(retries).unwrap_or(default.retries_max),
        backoff_ms: if list.is_empty() { default.backoff_ms } else { waits },
        age_ms_max: age.unwrap_or(default.age_ms_max),
        jitter: one_of(section, "jitter", &JITTER, problems),
        age_by_wall: section.boolean("max_age_wall", problems).unwrap_or(false),
    }
}

fn filters_are_good(
    key: &str,
    filters: &[At<String>],
    check: fn(&str) -> Result<(), FilterError>,
    problems: &mut Problems<'_>,
) {
    let max = limits::FILTERS_MAX;
    if filters.len() > max {
        problems.add(&filters[max].span, format!("`{key}` has at most {max} topic filters"));
    }
    for at in filters {
        if let Err(error) = check(&at.value) {
            problems.add(&at.span, format!("`{key}`: topic filter `{}` {error}", at.value));
        }
    }
}

pub(super) fn name_is_good(key: &str, at: &At<String>, problems: &mut Problems<'_>) {
    if check_name(&at.value).is_err() {
        let wanted = "1 to 63 characters a-z, 0-9 and inner hyphens";
        problems.add(&at.span, format!("{key} `{}` must be {wanted}", at.value));
    }
}

/// Names the nearest function where one is misspelt.
pub(super) fn no_function(
    at: &At<String>,
    functions: &BTreeMap<String, At<Function>>,
    problems: &mut Problems<'_>,
) {
    let hint = nearest(&at.value, functions.keys().map(String::as_str));
    problems.add(&at.span, format!("no function `{}`{hint}", at.value));
}

fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> String {
    names
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min()
        .map_or_else(
            || ": add [functions.NAME] for it".to_owned(),
            |(_, name)| format!(": did you mean `{name}`?"),
        )
}
