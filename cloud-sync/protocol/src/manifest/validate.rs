//! Finds every problem of a manifest in one pass.

mod firmware;
mod update;

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{
    Batch, Destination, EventFilter, FORMAT, Function, Limits, Manifest, Ordered, PatternProblem,
    Pause, Priority, Problem, Retry, Schedule, Series, SeriesDrop, Source, StateScope, Trigger,
};
use crate::filter::{
    FilterError, check_filter, check_grant, check_topic, matches, may_have_level, overlap,
};
use crate::id::check_name;
use crate::limits::{
    AGE_MS_MAX, AGE_MS_MIN, ARTIFACT_BYTES_MAX, BACKOFF_MS_MAX, BATCH_BYTES_MAX, BATCH_BYTES_MIN,
    BATCH_SIZE_MAX, BATCH_WINDOW_MS_MAX, BUNDLE_BYTES_MAX, CONCURRENCY_MAX, CONFIG_KEYS_MAX,
    CONFIG_VALUE_BYTES_MAX, FILTERS_MAX, FUNCTIONS_MAX, LABEL_BYTES_MAX, LOG_BYTES_MAX,
    MANIFEST_BYTES_MAX, MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, PAUSE_AFTER_MAX, PAUSE_MS_LEAST,
    PAUSE_MS_MOST, POSITION_MAX, PUBLISH_BYTES_MAX, PUBLISHES_MAX, RECORD_BYTES_MAX, RECORDS_MAX,
    RETRIES_MAX, SERIES_MAX, SERIES_POLICIES_MAX, STACK_BYTES_MAX, STACK_BYTES_MIN,
    STATE_BYTES_MAX, STATE_WRITE_BYTES_MAX, TIME_MS_MAX, TRIGGERS_MAX, TTL_MS_MAX, TTL_MS_MIN,
};

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, path: &str, text: impl Display) {
        self.0.push(Problem { path: path.to_owned(), text: text.to_string() });
    }

    fn range<T: PartialOrd + Display + Copy>(
        &mut self,
        path: &str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            let text = format!("{value} is out of bounds: {} to {}", range.start(), range.end());
            self.add(path, text);
        }
    }

    fn name(&mut self, path: &str, name: &str) {
        if let Err(error) = check_name(name) {
            self.add(path, error);
        }
    }

    fn filters(
        &mut self,
        path: &str,
        filters: &[String],
        check: fn(&str) -> Result<(), FilterError>,
    ) {
        self.range(path, filters.len(), 0..=FILTERS_MAX);
        for filter in filters {
            if let Err(error) = check(filter) {
                self.add(path, format!("topic filter {filter:?} {error}"));
            }
        }
    }
}

pub(super) fn problems(manifest: &Manifest) -> Vec<Problem> {
    let mut found = Findings::default();
    head(manifest, &mut found);
    for (name, function) in &manifest.functions {
        self::function(&format!("functions.{name}"), name, function, &mut found);
    }
    found.range("records", manifest.records.len(), 0..=SERIES_POLICIES_MAX);
    for (name, series) in &manifest.records {
        policy(&format!("records.{name}"), name, series, manifest, &mut found);
    }
    firmware::all(manifest, &mut found);
    update::all(manifest, &mut found);
    for (name, trigger) in &manifest.triggers {
        self::trigger(&format!("triggers.{name}"), name, trigger, manifest, &mut found);
    }
    found.0
}

fn head(manifest: &Manifest, found: &mut Findings) {
    if manifest.format != FORMAT {
        found.add("format", format!("is {}, this version reads {FORMAT}", manifest.format));
    }
    found.name("app", &manifest.app);
    let version = &manifest.version;
    if version.is_empty()
        || version.len() > LABEL_BYTES_MAX
        || version.chars().any(char::is_control)
    {
        found.add("version", format!("needs 1 to {LABEL_BYTES_MAX} printable bytes"));
    }
    found.range("sequence", manifest.sequence, 1..=POSITION_MAX);
    if manifest.floor > manifest.sequence {
        let text = format!("{} is above the sequence {}", manifest.floor, manifest.sequence);
        found.add("floor", text + ": the revision would refuse itself");
    }
    let is_empty = manifest.functions.is_empty() && manifest.firmware.is_empty();
    if is_empty && manifest.agent.is_none() && manifest.system.is_none() {
        found.add("functions", "an app needs at least one function, firmware, agent or system");
    }
    found.range("functions", manifest.functions.len(), 0..=FUNCTIONS_MAX);
    found.range("triggers", manifest.triggers.len(), 0..=TRIGGERS_MAX);
    let bytes: u64 =
        manifest.artifacts().values().fold(0, |sum, size| u64::saturating_add(sum, *size));
    let bytes_max = BUNDLE_BYTES_MAX - MANIFEST_BYTES_MAX as u64 * 2;
    if bytes > bytes_max {
        found.add("functions", format!("artifacts have {bytes} bytes, at most {bytes_max}"));
    }
}

fn function(path: &str, name: &str, function: &Function, found: &mut Findings) {
    found.name(path, name);
    found.range(&format!("{path}.size"), function.size, 1..=ARTIFACT_BYTES_MAX);
    limits(&format!("{path}.limits"), &function.limits, found);
    found.range(&format!("{path}.state_version"), function.state_version, 1..=u32::MAX);
    order(path, function, found);
    pause(&format!("{path}.pause"), function.pause, found);
    found.filters(&format!("{path}.grants.publish"), &function.grants.publish, check_grant);
    series(&format!("{path}.grants.record"), &function.grants.record, found);
    let path = format!("{path}.config");
    found.range(&path, function.config.len(), 0..=CONFIG_KEYS_MAX);
    for (key, value) in &function.config {
        if key.is_empty() || key.len() > LABEL_BYTES_MAX || key.chars().any(char::is_control) {
            let text = format!("key {key:?} needs 1 to {LABEL_BYTES_MAX} printable bytes");
            found.add(&path, text);
        }
        if value.len() > CONFIG_VALUE_BYTES_MAX {
            let text = format!("value of {key:?} has over {CONFIG_VALUE_BYTES_MAX} bytes");
            found.add(&path, text);
        }
    }
}

/// A lane owns state: what orders the events says whose state it is.
fn order(path: &str, function: &Function, found: &mut Findings) {
    let at = format!("{path}.ordered");
    let ordered = function.ordered.as_deref().map(str::parse::<Ordered>);
    match (&ordered, function.state) {
        (Some(Err(error)), _) => {
            found
                .add(&at, format!("{:?} {error}", function.ordered.as_deref().unwrap_or_default()));
        }
        (Some(Ok(_)), StateScope::Device | StateScope::Function) => {
            let text = "state follows the order: with ordered, state is \"lane\" or \"none\"";
            found.add(&at, text);
        }
        (Some(Ok(Ordered::Device | Ordered::Function)), StateScope::Lane) => {
            let text = "is what state alone says; leave ordered out and name it as state";
            found.add(&at, text);
        }
        (None, StateScope::Lane) => found.add(&at, "state = \"lane\" needs it"),
        _ => {}
    }
    if function.lanes() == Some(Ordered::Function) && function.limits.concurrency > 1 {
        let text = "all events are in one lane, so concurrency must be 1";
        found.add(&format!("{path}.limits.concurrency"), text);
    }
}

fn series(path: &str, names: &[String], found: &mut Findings) {
    found.range(path, names.len(), 0..=SERIES_MAX);
    for name in names {
        if name.is_empty() || name.len() > LABEL_BYTES_MAX || name.chars().any(char::is_control) {
            let text = format!("series {name:?} needs 1 to {LABEL_BYTES_MAX} printable bytes");
            found.add(path, text);
        }
    }
}

fn policy(path: &str, name: &str, series: &Series, manifest: &Manifest, found: &mut Findings) {
    let grants = || manifest.functions.values().flat_map(|function| &function.grants.record);
    if !grants().any(|grant| grant == name || grant == "*") {
        found.add(path, format!("no function may record the series {name:?}"));
    }
    if let Some(ttl_ms) = series.ttl_ms {
        found.range(&format!("{path}.ttl_ms"), ttl_ms, TTL_MS_MIN..=TTL_MS_MAX);
    }
    if series.drop == SeriesDrop::LatestPerKey && series.priority != Priority::Normal {
        let text = "drop = \"latest-per-key\" has a place of its own, behind urgent records";
        found.add(&format!("{path}.priority"), text);
    }
}

fn limits(path: &str, limits: &Limits, found: &mut Findings) {
    let at = |field: &str| format!("{path}.{field}");
    found.range(&at("memory_bytes"), limits.memory_bytes, MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX);
    found.range(&at("time_ms"), limits.time_ms, 1..=TIME_MS_MAX);
    found.range(&at("stack_bytes"), limits.stack_bytes, STACK_BYTES_MIN..=STACK_BYTES_MAX);
    found.range(&at("publishes"), limits.publishes, 0..=PUBLISHES_MAX);
    found.range(&at("publish_bytes"), limits.publish_bytes, 0..=PUBLISH_BYTES_MAX);
    found.range(&at("records"), limits.records, 0..=RECORDS_MAX);
    found.range(&at("record_bytes"), limits.record_bytes, 0..=RECORD_BYTES_MAX);
    found.range(&at("log_bytes"), limits.log_bytes, 0..=LOG_BYTES_MAX);
    let written = limits.state_write_bytes;
    found.range(&at("state_write_bytes"), written, 0..=STATE_WRITE_BYTES_MAX);
    found.range(&at("state_bytes"), limits.state_bytes, 0..=STATE_BYTES_MAX);
    found.range(&at("concurrency"), limits.concurrency, 1..=CONCURRENCY_MAX);
    if limits.reserved > limits.concurrency {
        let text = format!("{} is above the concurrency {}", limits.reserved, limits.concurrency);
        found.add(&at("reserved"), text);
    }
}

fn pause(path: &str, pause: Pause, found: &mut Findings) {
    let at = |field: &str| format!("{path}.{field}");
    found.range(&at("after"), pause.after, 1..=PAUSE_AFTER_MAX);
    found.range(&at("ms_min"), pause.ms_min, PAUSE_MS_LEAST..=PAUSE_MS_MOST);
    found.range(&at("ms_max"), pause.ms_max, pause.ms_min.min(PAUSE_MS_MOST)..=PAUSE_MS_MOST);
}

fn trigger(path: &str, name: &str, trigger: &Trigger, manifest: &Manifest, found: &mut Findings) {
    found.name(path, name);
    let function = manifest.functions.get(&trigger.function);
    if function.is_none() {
        found.add(&format!("{path}.function"), no_function(&trigger.function));
    }
    match &trigger.source {
        Source::Mqtt(source) => {
            let filter_path = format!("{path}.source.mqtt.filter");
            let batch_path = format!("{path}.source.mqtt.batch");
            let path = format!("{path}.source.mqtt.topics");
            if source.topics.is_empty() {
                found.add(&path, "needs at least one topic filter");
            }
            found.filters(&path, &source.topics, check_filter);
            if let Some(Ordered::TopicLevel(level)) = function.and_then(Function::lanes) {
                has_level(&path, &source.topics, level, found);
            }
            if let (Some(function), false) = (function, source.allow_loop) {
                own_loop(&path, &source.topics, &function.grants.publish, found);
            }
            patterns(&filter_path, &source.filter, found);
            if let Some(batch) = &source.batch {
                self::batch(&batch_path, batch, &trigger.retry, found);
            }
        }
        Source::Schedule(source) => {
            if let Err(error) = Schedule::parse(&source.expression) {
                let text = format!("{:?}: {error}", source.expression);
                found.add(&format!("{path}.source.schedule.expression"), text);
            }
        }
    }
    retry(&format!("{path}.retry"), &trigger.retry, found);
    for (key, told) in [("on_success", &trigger.on_success), ("on_failure", &trigger.on_failure)] {
        if let Some(told) = told {
            destination(&format!("{path}.{key}"), told, function, manifest, found);
        }
    }
}

fn destination(
    path: &str,
    told: &Destination,
    function: Option<&Function>,
    manifest: &Manifest,
    found: &mut Findings,
) {
    let Destination { topic, function: other, cloud } = told;
    if topic.is_none() && other.is_none() && !cloud {
        found.add(path, "names no destination: give topic, function or cloud = true");
    }
    if let Some(name) = other.as_ref().filter(|name| !manifest.functions.contains_key(*name)) {
        found.add(&format!("{path}.function"), no_function(name));
    }
    let Some(topic) = topic else { return };
    let path = format!("{path}.topic");
    if let Err(error) = check_topic(topic) {
        found.add(&path, format!("topic {topic:?} {error}"));
    } else if let Some(function) = function
        && !function.grants.publish.iter().any(|grant| matches(grant, topic))
    {
        let text = "is not granted to the trigger's function: add it to grants.publish";
        found.add(&path, format!("{topic:?} {text}"));
    }
}

fn batch(path: &str, batch: &Batch, retry: &Retry, found: &mut Findings) {
    let at = |field: &str| format!("{path}.{field}");
    found.range(&at("size_max"), batch.size_max, 1..=BATCH_SIZE_MAX);
    found.range(&at("window_ms"), batch.window_ms, 0..=BATCH_WINDOW_MS_MAX);
    found.range(&at("bytes_max"), batch.bytes_max, BATCH_BYTES_MIN..=BATCH_BYTES_MAX);
    if u64::from(batch.window_ms) >= retry.age_ms_max {
        let text = "is not below retry.age_ms_max: events would be given up while they wait";
        found.add(&at("window_ms"), text);
    }
}

fn no_function(name: &str) -> String {
    format!("there is no function {name:?} in this app")
}

fn patterns(path: &str, patterns: &[serde_json::Value], found: &mut Findings) {
    if patterns.is_empty() {
        return;
    }
    for PatternProblem { pattern, path: field, text } in
        EventFilter::compile(patterns).err().into_iter().flatten()
    {
        let dot = if field.is_empty() { "" } else { "." };
        found.add(&format!("{path}[{pattern}]{dot}{field}"), text);
    }
}

/// Messages that can never have the level that the function is ordered by are a mistake.
fn has_level(path: &str, topics: &[String], level: u8, found: &mut Findings) {
    let short = |topic: &&String| !may_have_level(topic, level);
    for topic in topics.iter().take(FILTERS_MAX).filter(short) {
        let text = format!(
            "{topic:?} has no level {level}, by which its function is ordered (topic[{level}]; the \
             first level is 0)"
        );
        found.add(path, text);
    }
}

/// A function that may publish to what wakes it can run for ever.
fn own_loop(path: &str, topics: &[String], grants: &[String], found: &mut Findings) {
    let bounded = |filters: &[String]| filters.len() <= FILTERS_MAX;
    if !bounded(topics) || !bounded(grants) {
        return; // Reported already; do not multiply the unbounded.
    }
    for topic in topics {
        if let Some(grant) = grants.iter().find(|grant| overlap(topic, grant)) {
            let text = format!(
                "{topic:?} meets the function's own publish grant {grant:?}, so it could wake \
                 itself; make one narrower, or set allow_loop = true"
            );
            found.add(path, text);
        }
    }
}

fn retry(path: &str, retry: &Retry, found: &mut Findings) {
    found.range(&format!("{path}.retries_max"), retry.retries_max, 0..=RETRIES_MAX);
    found.range(&format!("{path}.age_ms_max"), retry.age_ms_max, AGE_MS_MIN..=AGE_MS_MAX);
    let path = format!("{path}.backoff_ms");
    found.range(&path, retry.backoff_ms.len(), 0..=usize::from(RETRIES_MAX));
    for wait_ms in retry.backoff_ms.iter().filter(|wait_ms| **wait_ms > BACKOFF_MS_MAX) {
        found.add(&path, format!("{wait_ms} is over the longest wait of {BACKOFF_MS_MAX}"));
    }
    if retry.retries_max > 0 && retry.backoff_ms.is_empty() {
        found.add(&path, "needs at least one wait when there are retries");
    }
}
