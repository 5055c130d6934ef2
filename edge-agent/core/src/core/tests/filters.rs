//! Events that no pattern of their trigger wants.

use serde_json::{Value, json};

use super::*;
use crate::pattern::EventFilter;
use crate::status::TriggerStatus;

fn filtering(name: &str, function: &str, pattern: Value) -> TriggerSpec {
    let filter = EventFilter::compile(&[pattern]).unwrap();
    TriggerSpec { filter: Some(Arc::new(filter)), ..trigger(name, function, "in/#") }
}

/// `a/hot` wakes `a/f` above 80 degrees.
fn hot() -> Arc<Release> {
    let pattern = json!({ "body": { "celsius": [{ "numeric": [">", 80] }] } });
    release(1, vec![function("a/f")], vec![filtering("a/hot", "a/f", pattern)])
}

impl World {
    fn trigger_status(&self) -> Vec<TriggerStatus> {
        self.core.status(self.now()).triggers
    }
}

fn counts(trigger: &str, filtered: u64, filtered_not_json: u64) -> TriggerStatus {
    TriggerStatus { trigger: TriggerId::new(trigger), filtered, filtered_not_json }
}

#[test]
fn what_no_pattern_wants_is_acked_and_counted_and_makes_no_job() {
    let mut world = World::with(settings(), &[&hot()]);
    for payload in ["{\"celsius\": 21.5}", "{\"celsius\": 80}", "{}", "hello"] {
        let delivery = world.deliver(message("in/x", "d", payload));
        assert_eq!(world.answer(delivery), Some(Verdict::Accepted { jobs: 0 }), "{payload}");
    }
    assert!(world.open.is_empty() && world.running.is_empty());
    assert_eq!(world.trigger_status(), [counts("a/hot", 3, 1)]);
    let counters = world.core.status(world.now()).counters;
    assert_eq!((counters.filtered, counters.filtered_not_json), (3, 1));
    assert_eq!(counters.unrouted, 0, "its topic has a trigger");
    let delivery = world.deliver(message("in/x", "d", "{\"celsius\": 80.5}"));
    assert_eq!(world.answer(delivery), Some(Verdict::Accepted { jobs: 1 }));
    assert_eq!(world.running.len(), 1);
}

#[test]
fn each_trigger_of_a_message_filters_for_itself() {
    let wants = |word: &str| json!({ "body": { "kind": [word] } });
    let functions = vec![function("a/f"), function("a/g")];
    let triggers = vec![
        filtering("a/1", "a/f", wants("hot")),
        filtering("a/2", "a/g", wants("cold")),
        trigger("a/3", "a/g", "in/#"),
    ];
    let mut world = World::with(settings(), &[&release(1, functions, triggers)]);
    let delivery = world.deliver(message("in/x", "d", "{\"kind\": \"hot\"}"));
    assert_eq!(world.answer(delivery), Some(Verdict::Accepted { jobs: 2 }));
    let jobs =
        world.running.values().chain(&[]).map(|a| a.work.first().event.trigger.as_str().to_owned());
    assert_eq!(jobs.collect::<BTreeSet<_>>(), ["a/1", "a/3"].map(str::to_owned).into());
    assert_eq!(world.trigger_status(), [counts("a/1", 0, 0), counts("a/2", 1, 0)]);
}

#[test]
fn a_repeat_is_no_second_event_and_a_publish_of_a_function_is_filtered_as_well() {
    let out = filtering("a/out", "a/g", json!({ "topic": [{ "suffix": "/hot" }] }));
    let functions = vec![function("a/f"), function("a/g")];
    let triggers = vec![trigger("a/t", "a/f", "from/#"), out];
    let mut world = World::with(settings(), &[&release(1, functions, triggers)]);
    world.deliver(numbered("in/x", "d", 1));
    world.deliver(numbered("in/x", "d", 1));
    assert_eq!(world.trigger_status(), [counts("a/out", 1, 0)]);
    world.deliver(message("from/x", "d", "1"));
    world.finish_the_job(publishes(&["in/x/cold", "in/x/hot"]));
    assert_eq!(world.running[&world.the_job()].work.first().event.topic, "in/x/hot");
    assert_eq!(world.trigger_status(), [counts("a/out", 2, 0)]);
}

#[test]
fn a_held_delivery_is_counted_once_when_it_is_taken() {
    let mut slow = function("a/f");
    slow.when_full = WhenFull::Hold;
    let cold = filtering("a/cold", "a/g", json!({ "body": { "n": [0] } }));
    let functions = vec![slow, function("a/g")];
    let mut world = World::with(
        settings(),
        &[&release(1, functions, vec![trigger("a/t", "a/f", "in/#"), cold])],
    );
    let jobs = u64::from(world.settings.limits.share_jobs());
    for _ in 0..jobs {
        world.deliver(message("in/x", "d", "{\"n\": 1}"));
    }
    let held = world.deliver(message("in/x", "d", "{\"n\": 1}"));
    assert_eq!(world.answer(held), None, "it waits for room");
    assert_eq!(world.trigger_status(), [counts("a/cold", jobs, 0)]);
    let (job, attempt) = world.running.iter().map(|(job, a)| (*job, a.attempt)).next().unwrap();
    world.tell(Input::Finished { job, attempt, outcome: done(), ran_us: 0 });
    assert_eq!(world.answer(held), Some(Verdict::Accepted { jobs: 1 }));
    assert_eq!(world.trigger_status(), [counts("a/cold", jobs + 1, 0)]);
}

#[test]
fn a_new_revision_keeps_the_counts_of_triggers_that_still_filter() {
    let mut world = World::with(settings(), &[&hot()]);
    world.deliver(message("in/x", "d", "{}"));
    world.tell(Input::Activate { release: hot(), probation: None });
    assert_eq!(world.trigger_status(), [counts("a/hot", 1, 0)]);
    let plain = release(2, vec![function("a/f")], vec![trigger("a/hot", "a/f", "in/#")]);
    world.tell(Input::Activate { release: plain, probation: None });
    assert_eq!(world.trigger_status(), []);
    world.tell(Input::Activate { release: hot(), probation: None });
    assert_eq!(world.trigger_status(), [counts("a/hot", 0, 0)]);
}
