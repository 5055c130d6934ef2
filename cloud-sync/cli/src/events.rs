//! Where events come from: a file of JSON objects, lines `TOPIC PAYLOAD`, or the command line.

use std::path::Path;

use edge_agent::runtime::EventFile;
use serde_json::Value;

use crate::app::inside;
use crate::args::Events;
use crate::failure::{Done, Failure};

/// Events of an app to try it with.
pub const FILE_NAME: &str = "event.json";
const EVENTS_BYTES_MAX: u64 = 256 << 20;
/// What `holm sub --json` and `holm dead-letters show --json` print beside the words of an event
/// file.
const FOREIGN_KEYS: [&str; 11] = [
    "qos",
    "retain",
    "event",
    "function",
    "gateway",
    "reason",
    "error",
    "attempts",
    "unix_ms",
    "payload_bytes",
    "age_ms",
];

/// All events that were given; without any, those of [`FILE_NAME`] in the app's folder `dir`.
///
/// # Errors
/// A file cannot be read, or holds something else.
pub fn read(args: &Events, dir: &Path) -> Done<Vec<EventFile>> {
    let mut events = match (&args.event, &args.topic) {
        (Some(path), _) => of_file(path)?,
        (None, Some(topic)) => vec![single(topic, args.payload.as_deref())?],
        (None, None) => of_file(&inside(dir, Path::new(FILE_NAME)))?,
    };
    for event in &mut events {
        if event.device.is_none() {
            event.device.clone_from(&args.device);
        }
    }
    Ok(events)
}

fn of_file(path: &Path) -> Done<Vec<EventFile>> {
    const NEXT: &str = "an event file holds {\"topic\": .., \"device\": .., \"payload\": ..}; or \
                        give one event with --topic and --payload";
    let text = crate::input::text(path, EVENTS_BYTES_MAX).map_err(|failure| failure.next(NEXT))?;
    let wrong = |why: &str| Failure::input(format!("{}: {why}", path.display())).next(NEXT);
    match parse(&text) {
        Ok(events) if events.is_empty() => Err(wrong("there is no event in it")),
        Ok(events) => Ok(events),
        Err(why) => Err(wrong(&why)),
    }
}

fn single(topic: &str, payload: Option<&str>) -> Done<EventFile> {
    let payload = match payload {
        Some("-") => crate::input::text(std::path::Path::new("-"), EVENTS_BYTES_MAX)?,
        Some(payload) => payload.to_owned(),
        None => String::new(),
    };
    Ok(EventFile { topic: topic.to_owned(), payload_text: Some(payload), ..EventFile::default() })
}

fn parse(text: &str) -> Result<Vec<EventFile>, String> {
    if text.trim_start().starts_with('{') {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        return values.map(|value| event(value.map_err(|error| error.to_string())?)).collect();
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            let (topic, payload) = line.split_once(' ').ok_or_else(|| {
                format!("line {}: neither a JSON object nor TOPIC PAYLOAD", n + 1)
            })?;
            Ok(EventFile {
                topic: topic.to_owned(),
                payload_text: Some(payload.to_owned()),
                ..EventFile::default()
            })
        })
        .collect()
}

fn event(mut value: Value) -> Result<EventFile, String> {
    if let Some(object) = value.as_object_mut() {
        for key in FOREIGN_KEYS {
            object.remove(key);
        }
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_may_be_pretty_or_one_a_line() {
        let events = parse("{\n \"topic\": \"a\"\n}\n{\"topic\":\"b\",\"qos\":1}").unwrap();
        let topics: Vec<_> = events.iter().map(|event| event.topic.as_str()).collect();
        assert_eq!(topics, ["a", "b"]);
    }

    #[test]
    fn lines_are_topic_and_payload() {
        let events = parse("a/b {\"x\": 1}\n\nc hello world\n").unwrap();
        assert_eq!(events[0].payload_text.as_deref(), Some("{\"x\": 1}"));
        assert_eq!(events[1].payload_text.as_deref(), Some("hello world"));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse("{\"topci\": \"a\"}").unwrap_err().contains("topci"));
        assert!(parse("{\"topic\": ").unwrap_err().contains("EOF"));
        assert!(parse("lonely").unwrap_err().contains("line 1"));
    }
}
