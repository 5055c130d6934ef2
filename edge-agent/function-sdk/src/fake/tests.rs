//! The fake gateway keeps the promises of the real one.

use super::*;
use crate::prelude::*;

#[expect(clippy::needless_pass_by_value, reason = "the signature of every function")]
fn count(event: Event) -> Result {
    let n = state::postcard("n").update(|n: &mut u32| *n += 1)?;
    publish(format!("count/{}", event.device()?)).json(&n)?;
    record("count").json(&n)?;
    log!(Level::Debug, "counted to {n}");
    match event.text()? {
        "retry" => retry!("not now, at {n}"),
        "reject" => reject!("not ever"),
        "parse" => "x".parse::<u32>().map(drop).map_err(Failure::from),
        _ => Ok(()),
    }
}

fn event(device: &str, payload: &str) -> Event {
    Event::new("t").with_device(device).with_payload(payload)
}

#[test]
fn devices_have_state_of_their_own() {
    let mut gateway = Gateway::new();
    let counts: Vec<u32> = ["a", "a", "b", "a"]
        .iter()
        .map(|device| {
            gateway.run(count, event(device, "")).unwrap().publishes[0].payload_json::<u32>()
        })
        .collect();
    assert_eq!(counts, [1, 2, 1, 3]);
    let mut shared = Gateway::new().with_shared_state();
    shared.run(count, event("a", "")).unwrap();
    assert_eq!(shared.run(count, event("b", "")).unwrap().records[0].json::<u32>(), 2);
}

#[test]
fn a_failed_attempt_never_happened() {
    let mut gateway = Gateway::new();
    let failures = ["retry", "reject", "parse"].map(|how| gateway.run(count, event("a", how)));
    assert_eq!(
        failures,
        [
            Err(Failure::Retry("not now, at 1".into())),
            Err(Failure::Reject("not ever".into())),
            Err(Failure::Retry("invalid digit found in string".into())),
        ]
    );
    assert_eq!(gateway.run(count, event("a", "")).unwrap().publishes[0].payload, b"1");
    assert_eq!(gateway.logs().len(), 4);
}

#[test]
fn a_panic_leaves_the_thread_usable() {
    let mut gateway = Gateway::new();
    let panicked = std::panic::catch_unwind(|| {
        let _ = Gateway::new().run(|_| panic!("on purpose"), Event::new("t"));
    });
    assert!(panicked.is_err());
    gateway.run(count, event("a", "")).unwrap();
}

#[test]
fn a_payload_that_does_not_parse_is_rejected() {
    let read = |event: Event| event.json::<u32>().map(drop);
    let failure = Gateway::new().run(read, event("a", "{")).unwrap_err();
    assert!(matches!(failure, Failure::Reject(reason) if reason.contains("JSON")));
}

#[test]
fn config_falls_back_and_complains() {
    let limit = |_: Event| {
        let limit = config::get_or("limit", 3.0)?;
        publish("limit").json(&limit)
    };
    let run = |mut gateway: Gateway| {
        gateway.run(limit, Event::new("t")).map(|done| done.publishes[0].payload.clone())
    };
    assert_eq!(run(Gateway::new()).unwrap(), b"3.0");
    assert_eq!(run(Gateway::new().with_config("limit", "4.5")).unwrap(), b"4.5");
    let failure = run(Gateway::new().with_config("limit", "hot")).unwrap_err();
    assert_eq!(failure, Failure::Retry("config `limit` = \"hot\": invalid float literal".into()));
}

#[test]
fn scans_go_page_by_page() {
    let scan = |_: Event| {
        for key in ["a", "b/1", "b/2", "b/3", "c"] {
            state::put(key, key.as_bytes());
        }
        let first = state::scan("b/", None, 2);
        assert_eq!(first.entries.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b/1", "b/2"]);
        assert!(first.more);
        let second = state::scan("b/", Some("b/2"), 2);
        assert_eq!(second.entries, [("b/3".to_owned(), b"b/3".to_vec())]);
        assert!(!second.more);
        Ok(())
    };
    Gateway::new().run(scan, Event::new("t")).unwrap();
}

#[test]
#[should_panic(expected = "no topic that can be published to")]
fn a_wildcard_in_a_topic_is_refused() {
    let _ = Gateway::new().run(
        |_| {
            publish("a/+").text("x");
            Ok(())
        },
        Event::new("t"),
    );
}
