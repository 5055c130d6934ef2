//! Batch triggers: when a batch starts, who is in it, and what becomes of each of its events.

use super::*;
use crate::op::DeadReason;
use crate::outcome::{BatchOutputs, ItemFailure, ItemFailureKind, Segment};
use crate::release::BatchPolicy;

mod bounds;
mod crashes;
mod room;

const POLICY: BatchPolicy =
    BatchPolicy { size_max: 4, window_ms: 1_000, bytes_max: 100_000, bisect: true };

fn batched(state: StateScope, policy: BatchPolicy) -> Arc<Release> {
    let spec = FunctionSpec { state, ..function("a/f") };
    let batch = TriggerSpec { batch: Some(policy), ..trigger("a/t", "a/f", "in/#") };
    release(1, vec![spec], vec![batch, trigger("a/u", "a/f", "single/#")])
}

fn world(state: StateScope, policy: BatchPolicy) -> World {
    World::with(settings(), &[&batched(state, policy)])
}

/// `n` events of one device.
fn send(world: &mut World, n: u64) {
    for _ in 0..n {
        world.deliver(message("in/x", "d", "payload"));
    }
}

/// Jobs of the attempts in work, by their first ones.
fn running(world: &World) -> Vec<Vec<u64>> {
    let jobs = |a: &Attempt| a.work.members().iter().map(|member| member.job.0).collect();
    world.running.values().map(jobs).collect()
}

fn all_done() -> Outcome {
    Outcome::BatchDone(BatchOutputs::default())
}

fn failing(failures: &[(u16, ItemFailureKind)]) -> Outcome {
    let named = |(index, kind): &(u16, ItemFailureKind)| ItemFailure {
        index: *index,
        kind: *kind,
        reason: "no".to_owned(),
    };
    let failures = failures.iter().map(named).collect();
    Outcome::BatchDone(BatchOutputs { segments: Vec::new(), failures })
}

/// Faults whatever holds one of these jobs, until nothing runs; the others are done.
fn work_off(world: &mut World, poison: &[u64]) -> u32 {
    let mut attempts = 0;
    while let Some((first, attempt)) = world.running.iter().next() {
        let bad = attempt.work.members().iter().any(|member| poison.contains(&member.job.0));
        let (first, outcome) = (*first, if bad { trap() } else { all_done() });
        world.finish(first, outcome);
        attempts += 1;
    }
    attempts
}

#[test]
fn a_batch_without_a_window_takes_what_waits() {
    let now = BatchPolicy { window_ms: 0, ..POLICY };
    let mut world = world(StateScope::Device, now);
    send(&mut world, 7);
    assert_eq!(running(&world), [[1]]);
    world.finish(JobId(1), all_done());
    assert_eq!(running(&world), [[2, 3, 4, 5]]);
    world.finish(JobId(2), all_done());
    assert_eq!(running(&world), [[6, 7]]);
    world.finish(JobId(6), all_done());
    let status = world.core.status(world.now());
    assert_eq!((status.jobs, status.counters.batches, status.functions[0].batches), (0, 3, 3));
    assert_eq!(world.saw(|event| matches!(event, CoreEvent::Done { .. })), 7);
}

#[test]
fn partial_failures_with_order_pass_no_unfinished_event() {
    let mut world = world(StateScope::Device, POLICY);
    send(&mut world, 4);
    let retry = failing(&[(1, ItemFailureKind::Retry), (3, ItemFailureKind::Reject)]);
    world.finish(JobId(1), retry);
    assert!(world.running.is_empty(), "the lane waits");
    assert_eq!(world.applied.jobs.keys().map(|job| job.0).collect::<Vec<_>>(), [2, 3, 4]);
    world.pass_with_deadlines(60_000);
    assert_eq!(running(&world), [[2, 3, 4]]);
    let tries: Vec<u8> =
        world.running[&JobId(2)].work.members().iter().map(|member| member.tries).collect();
    assert_eq!(tries, [2, 1, 1], "what was said of those behind it counts for nothing");
    world.finish(JobId(2), failing(&[(0, ItemFailureKind::Reject)]));
    assert_eq!(world.letters(), [DeadReason::Rejected]);
    assert_eq!(running(&world), [[3, 4]], "at once");
}

#[test]
fn partial_failures_without_order_are_one_by_one() {
    let mut world = world(StateScope::None, POLICY);
    send(&mut world, 4);
    let kinds = [(3, ItemFailureKind::Reject), (0, ItemFailureKind::Retry)];
    world.finish(JobId(1), failing(&kinds));
    assert_eq!(world.letters(), [DeadReason::Rejected]);
    assert_eq!(world.applied.jobs.keys().map(|job| job.0).collect::<Vec<_>>(), [1]);
    world.pass_with_deadlines(60_000);
    assert_eq!(running(&world), [[1]], "what was tried before waits for no window");
}

#[test]
fn outputs_belong_to_their_event_and_those_of_the_whole_to_the_first_finished_one() {
    let mut world = world(StateScope::None, POLICY);
    for device in ["d", "e", "f", "g"] {
        world.deliver(message("in/x", device, device));
    }
    let publish = |of: Option<u16>, topic: &str| {
        let Outcome::Done(outputs) = publishes(&[topic]) else { unreachable!() };
        Segment { of, outputs }
    };
    let segments =
        [(Some(0), "of/0"), (None, "whole"), (Some(2), "of/2"), (Some(1), "of/1"), (Some(2), "2")];
    let segments = segments.iter().map(|(of, topic)| publish(*of, topic)).collect();
    let failure =
        ItemFailure { index: 0, kind: ItemFailureKind::Retry, reason: "later".to_owned() };
    let outputs = BatchOutputs { segments, failures: vec![failure] };
    world.finish(JobId(1), Outcome::BatchDone(outputs));
    let told: Vec<_> = world
        .published
        .iter()
        .map(|message| (message.topic.as_str(), message.device.as_ref().unwrap().as_str()))
        .collect();
    assert_eq!(told, [("whole", "e"), ("of/2", "f"), ("of/1", "e"), ("2", "f")]);
}

#[test]
fn a_poison_event_is_found_by_halving_and_costs_the_others_nothing() {
    for state in [StateScope::Device, StateScope::None] {
        let mut world = world(state, BatchPolicy { size_max: 8, window_ms: 1, ..POLICY });
        send(&mut world, 8);
        assert_eq!(running(&world)[0].len(), 8);
        work_off(&mut world, &[6]);
        for _ in 0..2 {
            world.pass_with_deadlines(120_000);
            assert_eq!(running(&world)[0][0], 6);
            work_off(&mut world, &[6]);
        }
        assert_eq!(world.letters(), [DeadReason::AttemptsExhausted], "{state:?}");
        assert!(world.applied.jobs.is_empty());
        assert_eq!(world.saw(|event| matches!(event, CoreEvent::Done { .. })), 7);
        let status = world.core.status(world.now());
        assert_eq!((status.counters.bisected, status.functions[0].bisected), (3, 3), "8, 4 and 2");
        assert!(status.functions[0].faults_in_row <= 1, "the culprit, alone");
    }
}

#[test]
fn without_bisect_a_fault_counts_for_all_and_for_a_pause_once() {
    let policy = BatchPolicy { bisect: false, ..POLICY };
    let mut world = world(StateScope::None, policy);
    send(&mut world, 4);
    world.finish(JobId(1), trap());
    assert!(world.running.is_empty());
    let attempts: Vec<u8> = world.applied.jobs.values().map(|j| j.progress.attempts).collect();
    assert_eq!(attempts, [1; 4]);
    assert_eq!(world.core.status(world.now()).functions[0].faults_in_row, 1);
}

#[test]
fn what_is_said_of_the_whole_is_not_bisected() {
    let mut world = world(StateScope::Device, POLICY);
    send(&mut world, 4);
    world.finish(JobId(1), Outcome::Retry { reason: "later".to_owned() });
    world.pass_with_deadlines(60_000);
    assert_eq!(running(&world), [[1, 2, 3, 4]], "together again");
    world.finish(JobId(1), Outcome::Reject { reason: "no".to_owned() });
    assert_eq!(world.letters(), [DeadReason::Rejected; 4]);
    assert_eq!(world.core.status(world.now()).counters.bisected, 0);
}

/// A row for each event is written, and the words of one fault need not stand in all in full.
#[test]
fn rows_of_a_batch_keep_the_beginning_of_an_error() {
    let policy = BatchPolicy { bisect: false, ..POLICY };
    let mut world = world(StateScope::None, policy);
    let long = || Outcome::Retry { reason: "é".repeat(2_000) };
    send(&mut world, 4);
    world.finish(JobId(1), long());
    let kept = |world: &World| -> Vec<usize> {
        let errors = world.applied.jobs.values().map(|job| job.progress.last_error.as_ref());
        errors.map(|error| error.unwrap().len()).collect()
    };
    assert_eq!(kept(&world), [256; 4]);
    world.deliver(message("single/x", "d", "alone"));
    world.finish(JobId(5), long());
    assert_eq!(kept(&world), [256, 256, 256, 256, 4_000]);
}

#[test]
fn on_probation_a_batch_that_faults_stays_whole() {
    let spec = function("a/f");
    let batch = TriggerSpec { batch: Some(POLICY), ..trigger("a/t", "a/f", "in/#") };
    let live = release(1, vec![spec], vec![batch]);
    let mut world = World::new(settings());
    let probation = Some(ProbationPolicy { faults_max: 2, ..ProbationPolicy::default() });
    world.tell(Input::Activate { release: live, probation });
    world.tell(Input::Started);
    send(&mut world, 4);
    world.finish(JobId(1), trap());
    assert_eq!(running(&world), [[1, 2, 3, 4]]);
    let before = world.applied.jobs.clone();
    world.finish(JobId(1), trap());
    assert!(world.running.is_empty() && world.applied.jobs == before, "nothing counted");
    assert!(world.told.iter().any(|told| matches!(told, Effect::ProbationFailed { .. })));
}
