//! Reads `filter` of a trigger: patterns as tables, or as strings that hold JSON.

use edge_agent::toml_reader::{Problems, Section};
use serde_json::Value;
use sync_protocol::manifest::{EventFilter, PatternProblem};

/// The patterns; `None` without the key.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    problems: &mut Problems<'_>,
) -> Option<Vec<Value>> {
    if section.span_of("filter") == section.span() {
        section.values("filter", problems);
        return None;
    }
    let items = section.values("filter", problems);
    let mut patterns = Vec::new();
    let mut spans = Vec::new();
    for item in items {
        let value = match &item.value {
            // TOML has no null, and a pattern may be at hand as JSON.
            Value::String(text) => serde_json::from_str(text),
            _ => Ok(item.value),
        };
        match value {
            Ok(value) => patterns.push(value),
            Err(error) => {
                problems.add(&item.span, format!("`filter`: the string is not JSON: {error}"));
                continue;
            }
        }
        spans.push(item.span);
    }
    if !patterns.is_empty() {
        for problem in EventFilter::compile(&patterns).err().into_iter().flatten() {
            let PatternProblem { pattern, path, text } = problem;
            let dot = if path.is_empty() { "" } else { ": " };
            problems.add(&spans[pattern], format!("`filter`: {path}{dot}{text}"));
        }
    }
    Some(patterns)
}
