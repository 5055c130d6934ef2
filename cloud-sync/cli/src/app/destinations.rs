//! Reads `on_success` and `on_failure` of a trigger.

use std::collections::BTreeMap;

use edge_agent::toml_reader::{At, Problems, Section};
use sync_protocol::filter::{check_topic, matches};
use sync_protocol::manifest::Destination;

use super::Function;
use super::read::no_function;

/// Where an end of the trigger of `function` is told; `None` without the key.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    key: &'static str,
    function: Option<&Function>,
    functions: &BTreeMap<String, At<Function>>,
    problems: &mut Problems<'_>,
) -> Option<Destination> {
    let mut table = section.section(key, problems)?;
    let topic = table.string("topic", problems);
    let other = table.string("function", problems);
    let cloud = table.boolean("cloud", problems).unwrap_or(false);
    if topic.is_none() && other.is_none() && !cloud {
        let text = format!("`{key}` needs `topic`, `function` or `cloud = true`");
        problems.add(&table.span(), text);
    }
    table.finish(problems);
    if let Some(at) = other.as_ref().filter(|at| !functions.contains_key(&at.value)) {
        no_function(at, functions, problems);
    }
    if let Some(at) = &topic {
        is_granted(key, at, function, problems);
    }
    let text = |at: Option<At<String>>| at.map(|at| at.value);
    Some(Destination { topic: text(topic), function: text(other), cloud })
}

/// The gateway refuses what the function itself may not publish to, so say it here.
fn is_granted(
    key: &str,
    at: &At<String>,
    function: Option<&Function>,
    problems: &mut Problems<'_>,
) {
    let topic = &at.value;
    if let Err(error) = check_topic(topic) {
        problems.add(&at.span, format!("`{key}`: topic `{topic}` {error}"));
    } else if let Some(function) = function
        && !function.grants.publish.iter().any(|grant| matches(grant, topic))
    {
        let text = "the function may not publish there: add it to `publish` of the function";
        problems.add(&at.span, format!("`{key}`: topic `{topic}`: {text}"));
    }
}
