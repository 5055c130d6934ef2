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

fn ends(done: &BatchDone) -> String {
    let letter = |end: &End| match end {
        End::Done(done) if done.publishes.is_empty() => '-',
        End::Done(_) => 'd',
        End::Failed(Failure::Retry(_)) => 'r',
        End::Failed(Failure::Reject(_)) => 'x',
        End::Again => '.',
    };
    done.events.iter().map(letter).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn count_each(batch: Batch) -> Result<Failures> {
    let failures = batch.each(count);
    publish("whole").text("done");
    Ok(failures)
}

fn events(payloads: &[&str]) -> Vec<Event> {
    payloads.iter().map(|payload| event("a", payload)).collect()
}

#[test]
fn in_order_a_batch_ends_at_the_first_failure() {
    let mut gateway = Gateway::new();
    let done = gateway.run_batch(count_each, events(&["", "", "retry", "", "reject"])).unwrap();
    assert_eq!(ends(&done), "ddr..");
    assert_eq!(done.whole.publishes.len(), 1);
    assert_eq!(gateway.logs().len(), 3, "what stands behind a failure is not tried");
    let again = gateway.run_batch(count_each, events(&["reject", ""])).unwrap();
    assert_eq!((ends(&again).as_str(), again.whole), ("x.", Done::default()));
    let last = gateway.run(count, event("a", "")).unwrap();
    assert_eq!(last.publishes[0].payload, b"3", "only what is done counts");
}

#[test]
fn without_order_the_others_are_done() {
    let check = |event: Event| match event.text()? {
        "retry" => retry!("not now"),
        "reject" => reject!("not ever"),
        text => {
            publish("ok").text(text);
            Ok(())
        }
    };
    let payloads = events(&["reject", "1", "retry", "2"]);
    let mut gateway = Gateway::new().without_state();
    let done = gateway.run_batch(|batch| Ok(batch.each(check)), payloads).unwrap();
    assert_eq!(ends(&done), "xdrd");
}

#[test]
fn an_error_is_said_of_the_whole_batch() {
    let mut gateway = Gateway::new();
    let refuse = |_: Batch| -> Result<Failures> {
        state::put("n", b"1");
        reject!("none of these");
    };
    let failure = gateway.run_batch(refuse, events(&["", ""])).unwrap_err();
    assert_eq!(failure, Failure::Reject("none of these".into()));
    assert_eq!(gateway.state_json::<u32>("a", "n"), None);
}

#[test]
fn segments_may_come_in_any_order_and_the_first_word_about_an_event_counts() {
    let shuffled = |batch: Batch| {
        let events: Vec<Event> = batch.into_events().map(|(_, event)| event).collect();
        for index in [1, 0, 1] {
            for_event(index);
            publish(format!("of/{index}")).text(events[index].text()?);
        }
        let mut failures = Failures::default();
        failures.add(0, Failure::Retry("first".into()));
        failures.add(0, Failure::Reject("second".into()));
        Ok(failures)
    };
    let mut gateway = Gateway::new().without_state();
    let done = gateway.run_batch(shuffled, events(&["x", "y"])).unwrap();
    assert_eq!(ends(&done), "rd");
    assert!(matches!(&done.events[1], End::Done(done) if done.publishes.len() == 2));
}

/// What a function leaves out or sorts moves no index: the event that failed is the one that is not
/// done.
#[test]
fn an_event_keeps_its_index() {
    let newest_first = |batch: Batch| {
        let kept = batch.into_events().filter(|(_, event)| event.payload != b"skip");
        let mut failures = Failures::default();
        for (index, event) in kept.collect::<Vec<_>>().into_iter().rev() {
            for_event(index);
            publish("seen").text("");
            if event.payload == b"reject" {
                failures.add(index, Failure::Reject("not ever".into()));
            }
        }
        Ok(failures)
    };
    let mut gateway = Gateway::new().without_state();
    let check = |batch: Batch| {
        assert_eq!((batch.size(), batch.events().last().map(|(index, _)| index)), (4, Some(3)));
        newest_first(batch)
    };
    let done = gateway.run_batch(check, events(&["skip", "", "skip", "reject"])).unwrap();
    assert_eq!(ends(&done), "-d-x");
}

#[test]
#[should_panic(expected = "a batch of 2 has no event 2")]
fn an_event_that_is_not_there_has_no_outputs() {
    let beyond = |batch: Batch| {
        for_event(batch.size());
        Ok(Failures::default())
    };
    let _ = Gateway::new().run_batch(beyond, events(&["", ""]));
}

#[test]
#[should_panic(expected = "a batch has the events of one device")]
fn devices_do_not_share_a_batch_where_state_is_theirs() {
    let mixed = vec![event("a", ""), event("b", "")];
    let _ = Gateway::new().run_batch(count_each, mixed);
}
