//! `[records.NAME]`: what becomes of the records of a series while they wait.

use std::collections::BTreeMap;

use edge_agent::toml_reader::{At, Problems, Section};
use sync_protocol::limits;
use sync_protocol::manifest::{Priority, Series, SeriesDrop};

use super::Function;
use super::values::{DURATION, in_range, one_of};

const PRIORITIES: [(&str, Priority); 3] =
    [("urgent", Priority::Urgent), ("normal", Priority::Normal), ("bulk", Priority::Bulk)];
const DROPS: [(&str, SeriesDrop); 3] = [
    ("oldest", SeriesDrop::Oldest),
    ("newest", SeriesDrop::Newest),
    ("latest-per-key", SeriesDrop::LatestPerKey),
];

/// Reads all of them.
pub(super) fn read(
    root: &mut Section<'_, '_>,
    functions: &BTreeMap<String, At<Function>>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Series> {
    let mut records = BTreeMap::new();
    let sections = root.named_sections("records", problems);
    let max = limits::SERIES_POLICIES_MAX;
    if sections.len() > max {
        problems.add(&(0..0), format!("an app has policies for at most {max} series"));
    }
    for (name, mut section) in sections {
        let granted = |at: &At<Function>| {
            let record = &at.value.grants.record;
            record.iter().any(|grant| *grant == name.value || grant == "*")
        };
        if !functions.values().any(granted) {
            let why = "no function may record it; add it to the `record` of one";
            problems.add(&name.span, format!("series `{}`: {why}", name.value));
        }
        records.insert(name.value, read_one(&mut section, problems));
        section.finish(problems);
    }
    records
}

fn read_one(section: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Series {
    let priority_span = section.span_of("priority");
    let ttls = limits::TTL_MS_MIN..=limits::TTL_MS_MAX;
    let series = Series {
        priority: one_of(section, "priority", &PRIORITIES, problems),
        ttl_ms: in_range(section, "ttl", DURATION, ttls, problems),
        drop: one_of(section, "drop", &DROPS, problems),
    };
    if series.drop == SeriesDrop::LatestPerKey && series.priority != Priority::Normal {
        let why = "`drop = \"latest-per-key\"` has a place of its own behind urgent records: leave \
                   `priority` out";
        problems.add(&priority_span, why);
    }
    series
}
