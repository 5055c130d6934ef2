//! Dedupe, routing, holding and shedding.

use super::*;
use crate::claim::ClaimError;
use crate::event::ShedReason;
use crate::op::DeadReason;

/// One attempt at a time, so that the queue fills.
fn slow(policy: WhenFull) -> Arc<Release> {
    let mut spec = function("a/f");
    spec.concurrency = 1;
    spec.when_full = policy;
    release(1, vec![spec], vec![trigger("a/t", "a/f", "in/#")])
}

/// The share of one function is 20 jobs.
fn fill(world: &mut World, device: &str) {
    for n in 0..20 {
        let delivery = world.deliver(message("in/x", device, &n.to_string()));
        assert_eq!(world.answer(delivery), Some(Verdict::Accepted { jobs: 1 }), "{n}");
    }
}

#[test]
fn a_message_without_a_match_is_acked_and_told() {
    let mut world = World::with(settings(), &[&simple()]);
    let delivery = world.deliver(message("elsewhere", "d", "x"));
    assert_eq!(world.answer(delivery), Some(Verdict::Accepted { jobs: 0 }));
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::Unrouted { .. })), 1);
    assert!(world.open.is_empty() && world.running.is_empty());
}

#[test]
fn each_trigger_is_woken_once_however_many_filters_match() {
    let mut two = trigger("a/t", "a/f", "in/#");
    let filters = ["in/#", "in/+", "in/x"].map(|f| TopicFilter::new(f).unwrap()).to_vec();
    two.source = TriggerSource::Mqtt { filters };
    let functions = vec![function("a/f"), function("a/g")];
    let triggers = vec![two, trigger("a/u", "a/g", "+/x")];
    let mut world = World::with(settings(), &[&release(1, functions, triggers)]);
    let delivery = world.deliver(message("in/x", "d", "1"));
    assert_eq!(world.answer(delivery), Some(Verdict::Accepted { jobs: 2 }));
    let mut woken: Vec<_> = world.running.values().map(|a| a.function.as_str()).collect();
    woken.sort_unstable();
    assert_eq!(woken, ["a/f", "a/g"]);
}

#[test]
fn a_message_id_runs_once_and_its_repeat_is_acked() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(numbered("in/x", "d", 1));
    let again = world.deliver(numbered("in/x", "d", 1));
    assert_eq!(world.answer(again), Some(Verdict::Duplicate));
    world.finish_the_job(puts("k", "1"));
    world.commit();
    world.crash();
    world.tell(Input::Activate { release: simple(), probation: None });
    world.tell(Input::Started);
    let again = world.deliver(numbered("in/x", "d", 1));
    assert_eq!(world.answer(again), Some(Verdict::Duplicate));
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::Repeat { .. })), 2);
    let next = world.deliver(numbered("in/x", "d", 2));
    assert_eq!(world.answer(next), Some(Verdict::Accepted { jobs: 1 }));
}

#[test]
fn a_message_id_below_the_window_runs_flagged() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(numbered("in/x", "d", 5_000));
    world.finish_the_job(done());
    world.deliver(numbered("in/x", "d", 1));
    assert!(world.running[&world.the_job()].work.first().event.maybe_repeat);
    assert_eq!(world.core.status(world.now()).counters.below_window, 1);
}

#[test]
fn a_held_delivery_gets_the_room_that_comes_and_keeps_its_place() {
    let mut world = World::with(settings(), &[&slow(WhenFull::Hold)]);
    fill(&mut world, "d");
    let first = world.deliver(message("in/x", "d", "first"));
    let second = world.deliver(message("in/x", "e", "second"));
    assert_eq!((world.answer(first), world.answer(second)), (None, None));
    assert_eq!(world.core.status(world.now()).held, 2);
    world.finish_the_job(done());
    assert_eq!(world.answer(first), Some(Verdict::Accepted { jobs: 1 }));
    assert_eq!(world.answer(second), None);
    world.finish_the_job(done());
    assert_eq!(world.answer(second), Some(Verdict::Accepted { jobs: 1 }));
}

#[test]
fn what_is_held_too_long_is_shed_and_acked() {
    let mut world = World::with(settings(), &[&slow(WhenFull::Hold)]);
    fill(&mut world, "d");
    let held = world.deliver(numbered("in/x", "d", 7));
    let copy = world.deliver(numbered("in/x", "d", 7));
    world.pass_with_deadlines(9_999);
    assert_eq!((world.answer(held), world.answer(copy)), (None, None));
    world.pass(1);
    assert_eq!(world.answer(held), Some(Verdict::Shed { jobs: 0, shed: 1 }));
    assert_eq!(world.answer(copy), Some(Verdict::Duplicate), "answered with the first");
    assert_eq!(world.letters(), [DeadReason::Shed]);
    assert_eq!(world.applied.bodies(StreamId::BULK).len(), 1);
    let again = world.deliver(numbered("in/x", "d", 7));
    assert_eq!(world.answer(again), Some(Verdict::Duplicate), "shed is an end too");
}

#[test]
fn a_delivery_for_two_functions_waits_for_both_and_is_not_overtaken() {
    let mut full = function("a/f");
    full.concurrency = 1;
    let functions = vec![full, function("a/g")];
    let triggers = vec![trigger("a/t", "a/f", "in/#"), trigger("a/u", "a/g", "+/both")];
    let mut world = World::with(settings(), &[&release(1, functions, triggers)]);
    fill(&mut world, "d");
    let both = world.deliver(message("in/both", "d", "1"));
    let later = world.deliver(message("other/both", "d", "2"));
    let other = world.deliver(message("other/both", "e", "3"));
    assert_eq!((world.answer(both), world.answer(later)), (None, None));
    assert_eq!(world.answer(other), Some(Verdict::Accepted { jobs: 1 }), "another lane");
    world.finish(JobId(1), done());
    assert_eq!(world.answer(both), Some(Verdict::Accepted { jobs: 2 }));
    assert_eq!(world.answer(later), Some(Verdict::Accepted { jobs: 1 }));
    let g = |a: &&Attempt| a.function.as_str() == "a/g" && a.lane != LaneKey::Function;
    let order: Vec<_> =
        world.running.values().filter(g).map(|a| a.work.first().event.topic.as_str()).collect();
    assert_eq!(order, ["other/both", "in/both"], "e's, and d's first");
}

#[test]
fn large_messages_are_not_starved_by_small_ones() {
    let mut world = World::with(settings(), &[&slow(WhenFull::Hold)]);
    let share = usize::try_from(world.settings.limits.share_bytes()).unwrap();
    let half = "x".repeat(share / 2 - 200);
    world.deliver(message("in/x", "d", &half));
    world.deliver(message("in/x", "d", &half));
    let large = world.deliver(message("in/x", "e", &half));
    let small = world.deliver(message("in/x", "g", "s"));
    assert_eq!((world.answer(large), world.answer(small)), (None, None));
    world.finish_the_job(done());
    assert!(world.answer(large).is_some());
}

#[test]
fn what_cannot_wait_is_shed_at_once() {
    let mut world = World::with(settings(), &[&slow(WhenFull::Hold)]);
    fill(&mut world, "d");
    let qos0 = world.deliver_as(message("in/x", "d", "x"), Patience::Immediate);
    assert_eq!(world.answer(qos0), Some(Verdict::Shed { jobs: 0, shed: 1 }));
    world.tell(Input::WillFired { message: Arc::new(message("in/x", "d", "will")) });
    assert_eq!(world.letters(), [DeadReason::Shed, DeadReason::Shed]);
}

#[test]
fn the_other_policies() {
    let shed = |reason| move |e: &CoreEvent| matches!(e, CoreEvent::Shed { reason: r, .. } if *r == reason);
    let mut world = World::with(settings(), &[&slow(WhenFull::ShedNewest)]);
    fill(&mut world, "d");
    let newest = world.deliver(message("in/x", "d", "new"));
    assert_eq!(world.answer(newest), Some(Verdict::Shed { jobs: 0, shed: 1 }));
    assert_eq!(world.saw(shed(ShedReason::Newest)), 1);

    let mut world = World::with(settings(), &[&slow(WhenFull::ShedOldest)]);
    fill(&mut world, "d");
    let newest = world.deliver(message("in/x", "d", "new"));
    assert_eq!(world.answer(newest), Some(Verdict::Accepted { jobs: 1 }));
    assert_eq!(world.saw(shed(ShedReason::Oldest)), 1);
    let letter = world.applied.letters.values().next().unwrap();
    assert_eq!(letter.event.payload, "1", "0 is in work");

    let mut world = World::with(settings(), &[&slow(WhenFull::LatestPerKey)]);
    fill(&mut world, "d");
    let newest = world.deliver(message("in/x", "d", "new"));
    assert_eq!(world.answer(newest), Some(Verdict::Accepted { jobs: 1 }));
    assert_eq!(world.saw(shed(ShedReason::Replaced)), 1);
    assert!(world.letters().is_empty(), "replaced is forgotten, but counted");
    let other = world.deliver(message("in/x", "e", "new"));
    assert_eq!(world.answer(other), Some(Verdict::Shed { jobs: 0, shed: 1 }), "no such key");
}

#[test]
fn a_paused_function_takes_no_acks_from_others() {
    let mut spec = function("a/f");
    spec.concurrency = 1;
    spec.pause.after = 1;
    let functions = vec![spec, function("a/g")];
    let triggers = vec![trigger("a/t", "a/f", "in/#"), trigger("a/u", "a/g", "in/#")];
    let mut world = World::with(settings(), &[&release(1, functions, triggers)]);
    let mut device = 0;
    while world.core.status(world.now()).functions[0].jobs < 20 {
        device += 1;
        world.deliver(message("in/x", &device.to_string(), "x"));
        let g: Vec<_> = world.running.values().filter(|a| a.function.as_str() == "a/g").collect();
        let g = g[0].job();
        world.finish(g, done());
    }
    let held = world.deliver(message("in/x", "held", "x"));
    assert_eq!(world.answer(held), None);
    world.finish(JobId(1), trap());
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::FunctionPaused { .. })), 1);
    assert_eq!(world.answer(held), Some(Verdict::Shed { jobs: 1, shed: 1 }));
    let next = world.deliver(message("in/x", "next", "x"));
    assert_eq!(world.answer(next), Some(Verdict::Shed { jobs: 1, shed: 1 }));
}

#[test]
fn a_stopping_core_refuses_and_tells_when_it_is_idle() {
    let mut world = World::with(settings(), &[&slow(WhenFull::Hold)]);
    fill(&mut world, "d");
    let held = world.deliver(message("in/x", "d", "held"));
    let out = world.tell(Input::Stop);
    let refused = Some(Verdict::Refused { reason: RefusedReason::Stopping });
    assert_eq!(world.answer(held), refused);
    assert!(!out.contains(&Effect::Idle));
    let late = world.deliver(message("in/x", "d", "late"));
    assert_eq!(world.answer(late), refused);
    let out = world.finish_the_job(done());
    assert!(out.contains(&Effect::Idle) && world.running.is_empty());
    assert_eq!(world.core.status(world.now()).jobs, 19, "they wait for the next start");
}

#[test]
fn the_ack_is_thrifty_only_if_every_function_is() {
    let mut thrifty = trigger("a/t", "a/f", "in/#");
    thrifty.durability = Durability::Thrifty;
    let functions = vec![function("a/f"), function("a/g")];
    let triggers = vec![thrifty, trigger("a/u", "a/g", "+/both")];
    let mut world = World::with(settings(), &[&release(1, functions, triggers)]);
    let pace = |effects: &[Effect]| {
        effects.iter().find_map(|e| match e {
            Effect::Settle { pace, .. } => Some(*pace),
            _ => None,
        })
    };
    let deliver = |topic| Input::Delivered {
        delivery: DeliveryId(1),
        message: Arc::new(message(topic, "d", "x")),
        patience: Patience::Holdable,
    };
    assert_eq!(pace(&world.tell(deliver("in/x"))), Some(Pace::Thrifty));
    assert_eq!(pace(&world.tell(deliver("in/both"))), Some(Pace::Prompt));
}

/// `body` in an envelope of `device`, published by d.
fn enveloped(device: &str, seq: u64) -> Message {
    let envelope = device_protocol::Envelope {
        device,
        boot: 7,
        sequence: seq,
        schema: device_protocol::SchemaId::RAW,
        time: device_protocol::Timestamp::uptime(1),
        body: b"body",
    };
    let mut bytes = [0; 128];
    let length = envelope.encode(&mut bytes).unwrap();
    let mut message = message("in/x", "d", "");
    message.payload = Bytes::copy_from_slice(&bytes[..length]);
    message.properties.content_type = Some(device_protocol::CONTENT_TYPE.to_owned());
    message
}

#[test]
fn an_envelope_runs_once_whatever_its_copies_look_like() {
    let mut world = World::with(settings(), &[&simple()]);
    let first = world.deliver(enveloped("d", 1));
    assert_eq!(world.answer(first), Some(Verdict::Accepted { jobs: 1 }));
    let again = world.deliver_as(enveloped("d", 1), Patience::Immediate);
    assert_eq!(world.answer(again), Some(Verdict::Duplicate));
    let event = world.running[&world.the_job()].work.first().event.clone();
    assert_eq!(event.message_id.as_ref().map(|id| (id.boot, id.seq)), Some((7, 1)));
    assert_eq!(event.payload, enveloped("d", 1).payload, "functions get it as it was sent");
}

#[test]
fn what_claims_falsely_reaches_no_function_and_is_told() {
    let mut world = World::with(settings(), &[&simple()]);
    let mut cut = enveloped("d", 1);
    cut.payload = cut.payload.slice(..cut.payload.len() - 1);
    let malformed = ClaimError::Envelope(device_protocol::Error::Malformed);
    for (it, claim) in [(cut, malformed), (enveloped("e", 1), ClaimError::Device)] {
        for patience in [Patience::Holdable, Patience::Immediate] {
            let delivery = world.deliver_as(it.clone(), patience);
            let reason = RefusedReason::Claim(claim);
            assert_eq!(world.answer(delivery), Some(Verdict::Refused { reason }));
        }
        world.tell(Input::WillFired { message: Arc::new(it) });
    }
    assert!(world.open.is_empty() && world.running.is_empty(), "it leaves no trace");
    let counters = world.core.status(world.now()).counters;
    assert_eq!((counters.refused, counters.false_claims, counters.accepted), (4, 6, 0));
    let good = world.deliver(enveloped("d", 1));
    assert_eq!(world.answer(good), Some(Verdict::Accepted { jobs: 1 }), "its number is unused");
}
