//! Functions that fault again and again: over restarts, other revisions and an operator's word.

use super::*;
use crate::op::DeadReason;

/// A world in which `a/f` is paused after three events; nothing runs, and some never did.
fn paused() -> World {
    let mut world = World::with(settings(), &[&pausing(3)]);
    for n in 0..15 {
        world.deliver(message("in/x", &n.to_string(), "x"));
    }
    while let Some(job) = world.running.keys().next().copied() {
        world.finish(job, trap());
    }
    assert_eq!(left(&world), Some(5_000));
    world
}

/// What is left of the pause.
fn left(world: &World) -> Option<u64> {
    world.core.status(world.now()).functions[0].paused_ms.map(|left| left.0)
}

fn restart(world: &mut World, release: Arc<Release>) {
    world.commit();
    world.crash();
    world.tell(Input::Activate { release, probation: None });
    world.tell(Input::Started);
}

fn resumed(world: &World) -> usize {
    world.saw(|e| matches!(e, CoreEvent::FunctionResumed { .. }))
}

#[test]
fn a_restart_is_no_way_out() {
    let mut world = paused();
    world.pass(2_000);
    restart(&mut world, pausing(3));
    assert_eq!((left(&world), world.running.len()), (Some(3_000), 0));
    world.pass_with_deadlines(3_000);
    let status = &world.core.status(world.now()).functions[0];
    assert!(status.probing && status.running == 1, "{status:?}");
    world.finish_the_job(trap());
    assert_eq!(left(&world), Some(10_000), "it goes on where it was");
    world.pass_with_deadlines(10_000);
    restart(&mut world, pausing(3));
    world.finish_the_job(done());
    assert_eq!((left(&world), resumed(&world)), (None, 1));
    world.commit();
    assert!(world.durable.pauses.is_empty());
    restart(&mut world, pausing(3));
    assert!(world.running.len() > 1);
}

#[test]
fn another_revision_is_given_the_benefit_of_the_doubt() {
    let other = Arc::new(Release { revision: Digest([2; 32]), ..(*pausing(3)).clone() });
    let mut world = paused();
    restart(&mut world, other);
    assert_eq!((left(&world), resumed(&world)), (None, 1));
    assert!(!world.running.is_empty());
    world.commit();
    assert!(world.durable.pauses.is_empty());
}

#[test]
fn an_operator_ends_a_pause() {
    let mut world = paused();
    world.tell(Input::ResumeFunction { function: FunctionId::new("a/f") });
    assert_eq!((left(&world), resumed(&world), world.running.len()), (None, 1, 4));
    world.tell(Input::ResumeFunction { function: FunctionId::new("a/f") });
    world.tell(Input::ResumeFunction { function: FunctionId::new("a/none") });
    assert_eq!(resumed(&world), 1, "no news");
    assert!(world.applied.pauses.is_empty());
}

#[test]
fn the_row_of_a_function_that_is_gone_goes() {
    let mut world = paused();
    world.tell(Input::Quiesce { app: "a".into() });
    world.tell(Input::Deactivate { app: "a".into() });
    assert!(world.applied.pauses.is_empty());
    let mut world = paused();
    world.commit();
    world.crash();
    world.tell(Input::Started);
    assert!(world.applied.pauses.is_empty(), "its app was not active any more");
}

#[test]
fn it_is_told_once_and_told_again_as_such() {
    let mut world = paused();
    world.pass_with_deadlines(5_000);
    world.finish_the_job(trap());
    let told = |wanted: bool| {
        world.saw(|e| matches!(e, CoreEvent::FunctionPaused { again, .. } if *again == wanted))
    };
    assert_eq!((told(false), told(true)), (1, 1));
}

/// A poisoned event is tried as often as its trigger says; the function works for all others.
#[test]
fn one_poisoned_event_pauses_nobody() {
    let retry = RetryPolicy { retries_max: 9, backoff: vec![], ..RetryPolicy::default() };
    let mut poisoned = (*pausing(3)).clone();
    poisoned.triggers[0].retry = retry;
    let mut world = World::with(settings(), &[&Arc::new(poisoned)]);
    world.deliver(message("in/x", "poison", "x"));
    for _ in 0..10 {
        world.finish_the_job(trap());
    }
    assert_eq!(world.letters(), [DeadReason::AttemptsExhausted]);
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::FunctionPaused { .. })), 0);
}

#[test]
fn rejections_and_requests_to_retry_are_no_faults() {
    let mut world = World::with(settings(), &[&pausing(1)]);
    for n in 0..6 {
        world.deliver(message("in/x", &n.to_string(), "x"));
        let outcome = match n % 2 {
            0 => Outcome::Reject { reason: "no".into() },
            _ => Outcome::Retry { reason: "later".into() },
        };
        world.finish_the_job(outcome);
    }
    assert_eq!(left(&world), None);
}
