//! Lanes by other keys than the device: order, isolation, restarts, other orders.

use super::*;
use crate::op::DeadReason;

fn by(key: &str) -> Arc<Release> {
    let spec = FunctionSpec { state: StateScope::Lane, ..ordered(function("a/f"), key) };
    release(1, vec![spec], vec![trigger("a/t", "a/f", "in/#")])
}

/// What runs, as `topic payload`.
fn running(world: &World) -> Vec<String> {
    let text = |a: &Attempt| {
        format!(
            "{} {}",
            a.work.first().event.topic,
            String::from_utf8_lossy(&a.work.first().event.payload)
        )
    };
    world.running.values().map(text).collect()
}

#[test]
fn a_topic_has_a_lane_whoever_publishes() {
    let mut world = World::with(settings(), &[&by("topic")]);
    world.deliver(message("in/x", "d", "1"));
    world.deliver(message("in/x", "e", "2"));
    world.deliver(message("in/y", "d", "3"));
    assert_eq!(running(&world), ["in/x 1", "in/y 3"]);
    world.finish(JobId(1), puts("last", "1"));
    assert_eq!(running(&world), ["in/x 2", "in/y 3"]);
    let lanes: Vec<_> = world.applied.state.keys().map(|key| key.lane.name()).collect();
    assert_eq!(lanes, [Some("in/x")], "its state is of the topic");
}

#[test]
fn a_failing_event_holds_its_key_and_no_other() {
    let mut world = World::with(settings(), &[&by("body.machine")]);
    let body = |machine: &str, n: u32| format!(r#"{{"machine": "{machine}", "n": {n}}}"#);
    for (machine, n) in [("m1", 1), ("m1", 2), ("m2", 3), ("m2", 4)] {
        world.deliver(message("in/x", "d", &body(machine, n)));
    }
    world.finish(JobId(1), trap());
    for job in [3, 4] {
        world.finish(JobId(job), done());
    }
    assert!(world.running.is_empty(), "m1 waits for its next try");
    world.pass_with_deadlines(60_000);
    assert_eq!(running(&world), [format!("in/x {}", body("m1", 1))]);
    world.finish(JobId(1), Outcome::Reject { reason: "no".into() });
    assert_eq!(running(&world), [format!("in/x {}", body("m1", 2))]);
    assert_eq!(world.letters(), [DeadReason::Rejected]);
}

#[test]
fn events_without_a_key_are_in_order_among_themselves_and_counted() {
    let mut world = World::with(settings(), &[&by("body.id")]);
    for body in ["not json", r#"{"id": 1}"#, r#"{"id": null}"#] {
        world.deliver(message("in/x", "d", body));
    }
    assert_eq!(running(&world), ["in/x not json", r#"in/x {"id": 1}"#]);
    world.finish(JobId(1), puts("k", "v"));
    assert_eq!(world.running.len(), 2);
    let key = world.applied.state.keys().next().unwrap();
    assert_eq!(key.lane, LaneKey::Keyless);
    assert_eq!(world.core.status(world.now()).counters.keyless, 2);
}

#[test]
fn order_without_state() {
    let spec = FunctionSpec { state: StateScope::None, ..ordered(function("a/f"), "device") };
    let release = release(1, vec![spec], vec![trigger("a/t", "a/f", "in/#")]);
    let mut world = World::with(settings(), &[&release]);
    for n in ["1", "2"] {
        world.deliver(message("in/x", "d", n));
    }
    assert_eq!(running(&world), ["in/x 1"]);
    world.finish(JobId(1), puts("k", "v"));
    assert!(world.applied.state.is_empty(), "it declares none");
}

#[test]
fn jobs_keep_their_lanes_over_a_restart() {
    let mut world = World::with(settings(), &[&by("property.line")]);
    for (line, n) in [("l1", "1"), ("l2", "2"), ("l1", "3"), ("l2", "4")] {
        let mut message = message("in/x", "d", n);
        message.properties.user = vec![("line".to_owned(), line.to_owned())];
        world.deliver(message);
    }
    world.commit();
    let lanes = |world: &World| {
        world.durable.jobs.values().map(|job| (job.id, job.lane.clone())).collect::<Vec<_>>()
    };
    let before = lanes(&world);
    assert_eq!(before[2].1, LaneKey::Key("l1".into()));
    world.crash();
    world.tell(Input::Activate { release: by("property.line"), probation: None });
    world.tell(Input::Started);
    assert_eq!(lanes(&world), before);
    assert_eq!(running(&world), ["in/x 1", "in/x 2"]);
    assert_eq!(world.running[&JobId(1)].lane, LaneKey::Key("l1".into()));
    world.finish(JobId(2), done());
    assert_eq!(running(&world), ["in/x 1", "in/x 4"]);
}

#[test]
fn another_order_lays_waiting_events_out_anew() {
    let mut world = World::with(settings(), &[&by("topic[1]")]);
    for (topic, device) in [("in/x", "d"), ("in/y", "d"), ("in/y", "e")] {
        world.deliver(message(topic, device, "1"));
    }
    world.tell(Input::Quiesce { app: "a".into() });
    world.finish(JobId(1), Outcome::Retry { reason: "later".into() });
    world.finish(JobId(2), Outcome::Retry { reason: "later".into() });
    let spec = function("a/f");
    let release = release(2, vec![spec], vec![trigger("a/t", "a/f", "in/#")]);
    world.tell(Input::Activate { release, probation: None });
    assert_eq!(world.running.keys().map(|job| job.0).collect::<Vec<_>>(), [3], "e is free");
    world.pass_with_deadlines(60_000);
    assert_eq!(world.running.keys().map(|job| job.0).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn the_latest_of_a_key_takes_the_place_of_the_one_before() {
    let mut settings = settings();
    settings.limits.queue_jobs_max = 16; // four for the function
    let mut spec = ordered(function("a/f"), "topic[1]");
    (spec.state, spec.when_full) = (StateScope::Lane, WhenFull::LatestPerKey);
    let release = release(1, vec![spec], vec![trigger("a/t", "a/f", "in/#")]);
    let mut world = World::with(settings, &[&release]);
    for (topic, n) in [("in/x", "1"), ("in/x", "2"), ("in/y", "3"), ("in/y", "4")] {
        world.deliver(message(topic, "d", n));
    }
    world.deliver(message("in/x", "e", "5"));
    let waiting: Vec<u64> = world.applied.jobs.keys().map(|job| job.0).collect();
    assert_eq!(waiting, [1, 3, 4, 5], "the one that waited behind in/x");
}
