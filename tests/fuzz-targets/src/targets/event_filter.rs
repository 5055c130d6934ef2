//! Event filters: patterns and events from foreign bytes.

use edge_core::pattern::{EventFilter, Subject, Verdict};
use serde_json::{Map, Value, json};

use crate::bytes_reader::BytesReader;

/// Whatever the bytes: compiling says what is wrong, judging is bounded and always says the same;
/// and a pattern made of an event's own fields wants that event.
pub(super) fn run(bytes: &[u8]) {
    let mut reader = BytesReader::new(bytes);
    let pattern_bytes = usize::from(reader.byte());
    let pattern = reader.take(pattern_bytes);
    let payload = reader.rest();
    let event = subject(payload);
    if let Ok(pattern) = serde_json::from_slice::<Value>(pattern) {
        match EventFilter::compile(std::slice::from_ref(&pattern)) {
            Ok(filter) => assert_eq!(filter.judge(&event), filter.judge(&event), "{pattern}"),
            Err(problems) => assert!(!problems.is_empty(), "{pattern}"),
        }
    }
    let Ok(Value::Object(body)) = serde_json::from_slice(payload) else { return };
    let mut named = Map::new();
    name_all(&body, &mut named);
    if named.is_empty() {
        return;
    }
    let own = json!({ "body": named });
    if let Ok(filter) = EventFilter::compile(std::slice::from_ref(&own)) {
        assert_eq!(filter.judge(&event), Verdict::Wanted, "{own}");
    }
}

fn subject(payload: &[u8]) -> Subject<'_> {
    Subject {
        topic: "sensors/press",
        device: Some("press"),
        content_type: None,
        properties: &[],
        payload,
    }
}

/// A pattern that names every scalar of an object, and of the objects in it, by its value.
fn name_all(object: &Map<String, Value>, pattern: &mut Map<String, Value>) {
    for (name, value) in object {
        match value {
            Value::Object(inner) => {
                let mut named = Map::new();
                name_all(inner, &mut named);
                if !named.is_empty() {
                    pattern.insert(name.clone(), Value::Object(named));
                }
            }
            Value::Array(_) => {}
            scalar => {
                pattern.insert(name.clone(), json!([scalar]));
            }
        }
    }
}
