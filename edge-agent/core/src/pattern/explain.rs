//! Why a pattern does not match: for people, not for the path of an event.

use serde_json::{Map, Value, json};

use super::{EventFilter, Subject, Verdict};

/// A field that does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Path to the field; empty: each field matches, but not all in the same element of an array.
    pub path: String,
    /// What the pattern asks of it.
    pub wanted: Value,
    /// What the event holds there; `None`: there is no such field.
    pub found: Option<Value>,
}

/// The fields for which a pattern does not match an event; none if it does. Each field is asked
/// by itself, `$or` as a whole. A pattern that does not compile is a miss as a whole.
#[must_use]
pub fn misses(pattern: &Value, event: &Subject<'_>) -> Vec<Miss> {
    if matches(pattern, event) {
        return Vec::new();
    }
    let mut fields = Vec::new();
    if let Value::Object(object) = pattern {
        split(object, &mut Vec::new(), &mut fields);
    }
    let document = document(event);
    let missed = fields.into_iter().filter(|(path, wanted)| !matches(&nest(path, wanted), event));
    let missed: Vec<Miss> = missed
        .map(|(path, wanted)| {
            let (key, above) = path.split_last().expect("invariant: a field has a name");
            let above = above.iter().try_fold(&document, |value, name| value.get(name));
            let found = above.and_then(|above| above.get(key)).cloned();
            Miss { path: path.join("."), wanted, found }
        })
        .collect();
    if missed.is_empty() {
        return vec![Miss { path: String::new(), wanted: pattern.clone(), found: None }];
    }
    missed
}

fn matches(pattern: &Value, event: &Subject<'_>) -> bool {
    EventFilter::compile(std::slice::from_ref(pattern))
        .is_ok_and(|filter| filter.judge(event) == Verdict::Wanted)
}

/// The leaves of a pattern with their paths. Compiled patterns are of bounded depth, and so is
/// every JSON that was parsed.
fn split(object: &Map<String, Value>, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, Value)>) {
    for (name, value) in object {
        path.push(name.clone());
        match value {
            Value::Object(fields) => split(fields, path, out),
            value => out.push((path.clone(), value.clone())),
        }
        path.pop();
    }
}

fn nest(path: &[String], wanted: &Value) -> Value {
    path.iter().rev().fold(wanted.clone(), |value, name| json!({ name.as_str(): value }))
}

fn document(event: &Subject<'_>) -> Value {
    let mut document = json!({ "topic": event.topic, "properties": {} });
    for (name, value) in [("device", event.device), ("content_type", event.content_type)] {
        if let Some(value) = value {
            document[name] = value.into();
        }
    }
    for (name, value) in event.properties {
        match &mut document["properties"][name.as_str()] {
            slot @ Value::Null => *slot = json!([value]),
            Value::Array(values) => values.push(value.as_str().into()),
            _ => unreachable!("a property is an array of texts"),
        }
    }
    if let Ok(body) = serde_json::from_slice::<Value>(event.payload) {
        document["body"] = body;
    }
    document
}
