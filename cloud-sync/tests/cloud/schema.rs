//! Every answer of the API that a test sees is held against the document it serves.

use std::sync::LazyLock;

use serde_json::Value;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../src/api/openapi.json")).unwrap());

/// Panics where an answer is not what the document says of its route and status. Routes that are
/// not in the document are the router's own test.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, status: u16, answer: &Value) {
    let path = path.split('?').next().unwrap_or(path);
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let Some((route, operations)) = paths.iter().find(|(route, _)| matches(route, path)) else {
        return;
    };
    let operation = &operations[method.to_lowercase()];
    if operation.is_null() {
        return;
    }
    let responses = &operation["responses"];
    let response = responses.get(status.to_string()).unwrap_or(&responses["default"]);
    let Some(json) = response["content"].get("application/json") else { return };
    let mut problems = Vec::new();
    compare(&json["schema"], answer, "answer", &mut problems);
    assert!(problems.is_empty(), "{method} {route} {status}: {problems:#?}\n{answer:#}");
}

fn matches(route: &str, path: &str) -> bool {
    let (mut route, mut path) = (route.split('/'), path.split('/'));
    loop {
        match (route.next(), path.next()) {
            (None, None) => return true,
            (Some(name), Some(_)) if name.starts_with('{') => {}
            (Some(name), Some(part)) if name == part => {}
            _ => return false,
        }
    }
}

/// The part of JSON Schema that the document uses. A field that the document does not name is a
/// problem, too: it would be an untold promise.
fn compare(schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap();
        return compare(target, value, at, problems);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| {
            let mut found = Vec::new();
            compare(choice, value, at, &mut found);
            found.is_empty()
        };
        if choices.iter().filter(fits).count() != 1 {
            problems.push(format!("{at} is not one of the {} choices", choices.len()));
        }
        return;
    }
    if let Some(wanted) = schema.get("const").filter(|wanted| *wanted != value) {
        problems.push(format!("{at} is not {wanted}"));
    }
    if let Some(wanted) = schema["enum"].as_array().filter(|wanted| !wanted.contains(value)) {
        problems.push(format!("{at} is none of {wanted:?}"));
    }
    if !is_of_type(&schema["type"], value) {
        problems.push(format!("{at} is not of type {}", schema["type"]));
    }
    if let (Some(items), Some(schema)) = (value.as_array(), schema.get("items")) {
        for (n, item) in items.iter().enumerate() {
            compare(schema, item, &format!("{at}[{n}]"), problems);
        }
    }
    if let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, field) in fields {
            match known.get(name) {
                Some(schema) => compare(schema, field, &format!("{at}.{name}"), problems),
                None => problems.push(format!("{at}.{name} is not in the document")),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                problems.push(format!("{at} lacks {name}"));
            }
        }
    }
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::Array(choices) => choices.iter().any(|choice| is_of_type(choice, value)),
        Value::String(name) => match name.as_str() {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "null" => value.is_null(),
            other => panic!("the document has a type {other}"),
        },
        _ => true,
    }
}

#[test]
fn what_is_not_promised_is_found() {
    let wrong = |answer: Value| {
        let mut problems = Vec::new();
        let schema = &DOCUMENT["components"]["schemas"]["Error"];
        compare(schema, &answer, "answer", &mut problems);
        problems.len()
    };
    assert_eq!(wrong(serde_json::json!({ "error": "no", "hint": "yes" })), 0);
    assert_eq!(wrong(serde_json::json!({ "error": 1, "hint": "yes" })), 1);
    assert_eq!(wrong(serde_json::json!({ "error": "no", "hint": "yes", "more": 1 })), 1);
    assert_ne!(wrong(serde_json::json!({})), 0);
}
