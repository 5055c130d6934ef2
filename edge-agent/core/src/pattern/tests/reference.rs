//! A pattern matched as its definition says, without regard to cost.

use serde_json::{Map, Value, json};

use super::super::Subject;

/// Whether a pattern matches; numbers of tests are small, so that doubles are exact.
pub(super) fn matches(pattern: &Value, event: &Subject<'_>) -> bool {
    let body = serde_json::from_slice(event.payload).ok();
    if body.is_none() && names_body(pattern) {
        return false;
    }
    let mut document = Map::new();
    document.insert("topic".to_owned(), event.topic.into());
    let mut properties = Map::new();
    for (name, value) in event.properties {
        let list = properties.entry(name.clone()).or_insert_with(|| json!([]));
        list.as_array_mut().unwrap().push(value.as_str().into());
    }
    document.insert("properties".to_owned(), properties.into());
    let texts = [("device", event.device), ("content_type", event.content_type)];
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, Value::from(text?))));
    for (name, value) in texts.chain(body.map(|body| ("body", body))) {
        document.insert(name.to_owned(), value);
    }
    object(pattern.as_object().unwrap(), Some(&document.into()))
}

fn names_body(pattern: &Value) -> bool {
    pattern.as_object().unwrap().iter().any(|(name, value)| match name.as_str() {
        "$or" => value.as_array().unwrap().iter().any(names_body),
        name => name == "body",
    })
}

fn object(pattern: &Map<String, Value>, value: Option<&Value>) -> bool {
    if let Some(Value::Array(elements)) = value
        && !elements.is_empty()
    {
        return elements.iter().any(|element| object(pattern, Some(element)));
    }
    let fields = value.and_then(Value::as_object);
    pattern.iter().all(|(name, wanted)| {
        let found = fields.and_then(|fields| fields.get(name));
        match wanted {
            Value::Array(any) if name == "$or" => {
                any.iter().any(|pattern| object(pattern.as_object().unwrap(), value))
            }
            Value::Array(any) => any.iter().any(|test| leaf(test, found)),
            Value::Object(pattern) => object(pattern, found),
            other => panic!("{other}"),
        }
    })
}

fn leaf(test: &Value, value: Option<&Value>) -> bool {
    if let Some(there) = test.get("exists") {
        return *there == json!(value.is_some());
    }
    match value {
        None | Some(Value::Object(_)) => false,
        Some(Value::Array(elements)) => elements.iter().any(|element| leaf(test, Some(element))),
        Some(value) => plain(test, value),
    }
}

fn plain(test: &Value, value: &Value) -> bool {
    let Some((word, of)) = test.as_object().and_then(|test| test.iter().next()) else {
        return match (test.as_f64(), value.as_f64()) {
            (Some(one), Some(two)) => one == two,
            _ => test == value,
        };
    };
    let each = |of: &Value, test: &dyn Fn(&Value) -> bool| match of {
        Value::Array(any) => any.iter().any(test),
        one => test(one),
    };
    if word == "anything-but" {
        return match of.as_object().and_then(|of| of.iter().next()) {
            Some((word, of)) => !each(of, &|of| plain(&json!({ word.as_str(): of }), value)),
            None => !each(of, &|of| plain(of, value)),
        };
    }
    if word == "numeric" {
        let Some(number) = value.as_f64() else { return false };
        return of.as_array().unwrap().chunks(2).all(|pair| {
            let end = pair[1].as_f64().unwrap();
            match pair[0].as_str().unwrap() {
                "=" => number == end,
                ">" => number > end,
                ">=" => number >= end,
                "<" => number < end,
                _ => number <= end,
            }
        });
    }
    let (Some(text), of) = (value.as_str(), of.as_str().unwrap()) else { return false };
    match word.as_str() {
        "prefix" => text.starts_with(of),
        "suffix" => text.ends_with(of),
        "equals-ignore-case" => text.to_lowercase() == of.to_lowercase(),
        _ => wildcard(&of.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>()),
    }
}

fn wildcard(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['*', rest @ ..] => (0..=text.len()).any(|n| wildcard(rest, &text[n..])),
        ['\\', c, rest @ ..] | [c, rest @ ..] => {
            text.first() == Some(c) && wildcard(rest, &text[1..])
        }
    }
}
