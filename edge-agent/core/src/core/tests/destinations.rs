//! Where it is told how an event ended.

use serde_json::Value;

use super::*;
use crate::destination::Destinations;
use crate::op::{DeadReason, RecordBody};

fn to_topic(topic: &str) -> Option<Destinations> {
    Some(Destinations { topic: Some(Topic::new(topic).unwrap()), ..Destinations::default() })
}

/// Told everywhere: on `ends/failed`, to `a/g`, to the control plane.
fn everywhere() -> Option<Destinations> {
    Some(Destinations {
        topic: Some(Topic::new("ends/failed").unwrap()),
        trigger: Some(TriggerId::new("a/t:on-failure")),
        series: Some("t:on-failure".to_owned()),
    })
}

fn internal() -> TriggerSpec {
    TriggerSpec { source: TriggerSource::Destination, ..trigger("a/t:on-failure", "a/g", "unused") }
}

/// `a/f` on `in/#`, told where it says; `a/g` waits for destinations and on `ends/#`.
fn told(on_success: Option<Destinations>, on_failure: Option<Destinations>) -> Arc<Release> {
    let own = TriggerSpec { on_success, on_failure, ..trigger("a/t", "a/f", "in/#") };
    let triggers = vec![own, internal(), trigger("a/ends", "a/g", "ends/#")];
    release(1, vec![function("a/f"), function("a/g")], triggers)
}

fn record(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).expect("a record is JSON")
}

/// Ends of the events of `a/g`, the ones that wait included.
fn told_to_g(world: &World) -> Vec<(String, Value, u8)> {
    let jobs = world.applied.jobs.values().filter(|job| job.function.as_str() == "a/g");
    jobs.map(|job| {
        let event = &job.event;
        (event.trigger.as_str().to_owned(), record(&event.payload), event.hops)
    })
    .collect()
}

#[test]
fn a_failure_is_told_everywhere_in_the_batch_of_its_dead_letter() {
    let mut world = World::with(settings(), &[&told(None, everywhere())]);
    world.deliver(message("in/x", "d", "{\"n\": 1}"));
    world.commit();
    let effects = world.finish_the_job(Outcome::Reject { reason: "nonsense".into() });
    let ops = effects.iter().filter_map(|effect| match effect {
        Effect::Op(op, pace) => Some((op, *pace)),
        _ => None,
    });
    assert!(ops.clone().all(|(_, pace)| pace == Pace::Prompt));
    let kinds: Vec<_> = ops
        .map(|(op, _)| match op {
            CoreOp::FinishJob { .. } => "finish",
            CoreOp::PutDeadLetter(_) => "letter",
            CoreOp::AppendOutbox(_) => "outbox",
            CoreOp::AdmitJob(_) => "admit",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["finish", "letter", "outbox", "outbox", "admit", "admit"]);
    let told = told_to_g(&world);
    assert_eq!(told.len(), 2);
    for (trigger, record, hops) in &told {
        assert!(["a/t:on-failure", "a/ends"].contains(&trigger.as_str()), "{trigger}");
        assert_eq!((&record["condition"], *hops), (&"Rejected".into(), 1));
        assert_eq!((&record["error"], &record["attempts"]), (&"nonsense".into(), &1.into()));
        assert_eq!(record["payload"], serde_json::json!({ "n": 1 }));
        assert_eq!(record["revision"], "01".repeat(32));
    }
    let [published] = &world.published[..] else { panic!("{:?}", world.published) };
    assert_eq!((published.topic.as_str(), published.qos), ("ends/failed", QoS::AtLeastOnce));
    assert_eq!(published.device, Some(DeviceId::new("d")));
    let [RecordBody::Telemetry { name, payload, .. }] = &world.applied.bodies(StreamId::NORMAL)[..]
    else {
        panic!("one record")
    };
    assert_eq!((name.as_str(), payload), ("t:on-failure", &published.payload));
    assert_eq!(world.letters(), [DeadReason::Rejected], "in addition to the dead letter");
}

#[test]
fn each_end_has_its_condition() {
    let condition = |end: &dyn Fn(&mut World)| {
        let mut world = World::with(settings(), &[&told(None, everywhere())]);
        world.deliver(message("in/x", "d", "1"));
        end(&mut world);
        let (_, record, _) = told_to_g(&world).swap_remove(0);
        (record["condition"].as_str().unwrap().to_owned(), record["attempts"].as_u64().unwrap())
    };
    let exhausted = |world: &mut World| {
        for wait in [60_000, 120_000, 0] {
            let job = world.running.iter().find(|(_, a)| a.function.as_str() == "a/f");
            let job = *job.unwrap().0;
            world.finish(job, trap());
            world.pass(wait);
        }
    };
    assert_eq!(condition(&exhausted), ("RetriesExhausted".to_owned(), 3));
    let old = |world: &mut World| {
        world.finish_the_job(trap());
        world.deliver(message("in/x", "d", "2"));
        world.at += 7 * 3_600_000;
        world.tell(Input::Tick);
    };
    assert_eq!(condition(&old), ("EventAgeExceeded".to_owned(), 1));
    let crashed = |world: &mut World| {
        for _ in 0..2 {
            let crumb = crumb(&world.running[&JobId(1)], true);
            world.commit();
            world.crash();
            world.tell(Input::Activate { release: told(None, everywhere()), probation: None });
            world.tell(Input::Crashed(crumb));
            world.tell(Input::Started);
        }
    };
    assert_eq!(condition(&crashed), ("Crashed".to_owned(), 0));
}

#[test]
fn a_success_is_told_with_what_was_put_out_and_not_lazily() {
    let mut world = World::with(settings(), &[&told(to_topic("ends/done"), None)]);
    world.deliver(message("in/x", "d", "hello"));
    world.commit();
    let effects = world.finish_the_job(done());
    assert!(matches!(effects[0], Effect::Op(CoreOp::FinishJob { .. }, Pace::Prompt)));
    let (trigger, record, hops) = told_to_g(&world).swap_remove(0);
    assert_eq!((trigger.as_str(), hops), ("a/ends", 1));
    assert_eq!((&record["condition"], &record["attempts"]), (&"Success".into(), &1.into()));
    let none = serde_json::json!({ "publishes": 0, "records": 0, "state": 0 });
    assert_eq!((&record["outputs"], &record["error"]), (&none, &Value::Null));
    assert_eq!(record["payload_text"], "hello");
    assert_eq!(world.letters(), []);
}

#[test]
fn a_circle_of_destinations_ends_as_a_loop() {
    let mut settings = settings();
    settings.limits.hops_max = 3;
    let on_failure = everywhere();
    let on_success = to_topic("in/again");
    let own = TriggerSpec { on_success, on_failure, ..trigger("a/t", "a/f", "in/#") };
    let mut world = World::with(settings, &[&release(1, vec![function("a/f")], vec![own])]);
    world.deliver(message("in/x", "d", "1"));
    for hops in 0..=3 {
        assert_eq!(world.running[&world.the_job()].work.first().event.hops, hops);
        world.finish_the_job(done());
    }
    assert!(world.running.is_empty());
    assert_eq!(world.letters(), [DeadReason::Loop]);
    assert_eq!(world.published.len(), 4, "the success of each, not the loop");
    assert_eq!(
        world.applied.bodies(StreamId::NORMAL).len(),
        0,
        "a destination's event is told nowhere"
    );
}

#[test]
fn a_loop_of_publishes_is_told_to_the_control_plane_only() {
    let mut settings = settings();
    settings.limits.hops_max = 1;
    let mut world = World::with(settings, &[&told(None, everywhere())]);
    world.deliver(message("in/x", "d", "1"));
    world.finish_the_job(publishes(&["in/x"]));
    world.finish_the_job(publishes(&["in/x"]));
    assert_eq!(world.letters(), [DeadReason::Loop]);
    let [RecordBody::Telemetry { payload, .. }] = &world.applied.bodies(StreamId::NORMAL)[..]
    else {
        panic!("one record")
    };
    assert_eq!(record(payload)["condition"], "Loop");
    assert!(told_to_g(&world).is_empty());
    assert!(world.published.iter().all(|message| message.topic.as_str() == "in/x"));
}

/// Many triggers, all told to each other, all full: one shed event tells its own destinations and
/// no more, or one turn would not end.
#[test]
fn what_a_destination_sheds_is_told_nowhere() {
    for policy in [WhenFull::ShedNewest, WhenFull::ShedOldest] {
        let names = ["a/1", "a/2", "a/3", "a/4"];
        let functions = names.map(|name| FunctionSpec { when_full: policy, ..function(name) });
        let triggers = names.map(|name| TriggerSpec {
            on_failure: to_topic("in/failed"),
            ..trigger(name, name, "in/#")
        });
        let mut world =
            World::with(settings(), &[&release(1, functions.to_vec(), triggers.to_vec())]);
        let mut most = 0;
        for _ in 0..40 {
            let before = world.applied.letters.len();
            world.deliver(message("in/x", "d", "1"));
            most = most.max(world.applied.letters.len() - before);
        }
        // Each of four triggers sheds one event, and each of these is told to four triggers.
        assert_eq!(most, 4 + 4 * 4, "{policy:?}");
    }
}

#[test]
fn an_event_that_a_newer_one_replaced_is_told_nowhere() {
    let own = TriggerSpec { on_failure: everywhere(), ..trigger("a/t", "a/f", "in/#") };
    let latest = FunctionSpec { when_full: WhenFull::LatestPerKey, ..function("a/f") };
    let release = release(1, vec![latest, function("a/g")], vec![own, internal()]);
    let mut world = World::with(settings(), &[&release]);
    for n in 0..30 {
        world.deliver(message("in/x", "d", &n.to_string()));
    }
    assert!(world.core.status(world.now()).counters.shed_replaced > 0);
    assert!(world.published.is_empty() && told_to_g(&world).is_empty());
}
