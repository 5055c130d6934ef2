//! `holm invoke`: a function on an event from a file.

use std::sync::Arc;

use edge_agent::runtime::{EventFile, InvokeError, MemoryState, invoke_once};
use edge_core::outcome::Outcome;
use edge_core::release::StateScope;
use edge_core::time::ClockQuality;

use super::harness::{component, profile};

fn file(json: &str) -> EventFile {
    serde_json::from_str(json).unwrap()
}

#[test]
fn state_goes_on_from_one_invocation_to_the_next() {
    let state = Arc::new(MemoryState::default());
    let component = component("counter");
    let invoke =
        |event: &str| invoke_once(&component, profile("counter"), file(event), &state).unwrap();
    for n in ["1", "2"] {
        let done = invoke(r#"{ "topic": "t", "device": "m1" }"#);
        let Outcome::Done(outputs) = done.report.outcome else { panic!("{:?}", done.report) };
        assert_eq!(outputs.publishes[0].payload, n);
        assert_eq!(done.state, [("n".to_owned(), n.into())]);
    }
    let other = invoke(r#"{ "device": "m2" }"#);
    assert_eq!(other.state, [("n".to_owned(), "1".into())]);
    // A retry leaves the state as it was.
    let retried = invoke(r#"{ "device": "m1", "payload_text": "retry" }"#);
    assert!(matches!(retried.report.outcome, Outcome::Retry { .. }));
    assert_eq!(retried.state, [("n".to_owned(), "2".into())]);
}

#[test]
fn a_function_without_state_has_none() {
    let mut profile = profile("echo");
    profile.grants.state = StateScope::None;
    let event = file(r#"{ "topic": "t", "payload": { "a": [1, null] } }"#);
    let done = invoke_once(&component("echo"), profile, event, &Arc::default()).unwrap();
    let Outcome::Done(outputs) = done.report.outcome else { panic!("{:?}", done.report) };
    assert_eq!(outputs.publishes[0].payload, r#"{"a":[1,null]}"#);
    assert!(done.state.is_empty());
}

#[test]
fn payloads_come_in_three_ways() {
    let payload = |json: &str| file(json).into_event().unwrap().payload;
    assert_eq!(payload(r#"{ "payload": "x" }"#), "\"x\"");
    assert_eq!(payload(r#"{ "payload_text": "x" }"#), "x");
    assert_eq!(payload(r#"{ "payload_hex": "00ffAb" }"#), &b"\x00\xff\xab"[..]);
    assert_eq!(payload("{}"), "");
    let refused = [
        r#"{ "payload_hex": "0" }"#,
        r#"{ "payload_hex": "0g" }"#,
        r#"{ "payload": 1, "payload_text": "1" }"#,
    ];
    for json in refused {
        assert!(matches!(file(json).into_event(), Err(InvokeError::Event(_))), "{json}");
    }
    assert!(serde_json::from_str::<EventFile>(r#"{ "paylod": 1 }"#).is_err());
}

#[test]
fn a_time_that_is_given_counts_as_synced() {
    let time = |json: &str| file(json).into_event().unwrap().time;
    assert_eq!(time(r#"{ "time_unix_ms": 5 }"#).quality, ClockQuality::Synced);
    assert_eq!(time("{}").quality, ClockQuality::Unsynced);
}
