//! The process dies while it works on a batch.

use super::*;
use crate::effect::Pace;

/// The process dies in these attempts and starts again.
fn die(world: &mut World, live: &Arc<Release>) {
    let crumbs: Vec<Attempt> = world.running.values().cloned().collect();
    world.crash();
    world.tell(Input::Activate { release: live.clone(), probation: None });
    for attempt in &crumbs {
        world.tell(Input::Crashed(crumb(attempt, crumbs.len() == 1)));
    }
    world.tell(Input::Started);
    world.commit();
}

#[test]
fn a_batch_that_kills_the_process_is_taken_apart_and_only_the_culprit_given_up() {
    for state in [StateScope::Device, StateScope::None] {
        for culprit in 1..=4 {
            let live = batched(state, POLICY);
            let mut world = World::with(settings(), &[&live]);
            send(&mut world, 4);
            world.commit();
            let mut lives = 0;
            while let Some((first, attempt)) = world.running.iter().next() {
                let first = *first;
                let members = attempt.work.members();
                if members.iter().any(|member| member.job.0 == culprit) {
                    assert!(lives == 0 || members.len() == 1, "alone after the first death");
                    die(&mut world, &live);
                    lives += 1;
                } else {
                    world.finish(first, all_done());
                    world.commit();
                }
                if world.running.is_empty() {
                    world.pass_with_deadlines(1_000); // nobody else comes
                }
            }
            assert_eq!(world.letters(), [DeadReason::Crashed], "{state:?} {culprit}");
            let letter = world.applied.letters.values().next().unwrap();
            assert_eq!(letter.event.id.n, culprit);
            assert!(world.applied.jobs.is_empty());
            assert!(lives <= 3, "{lives}");
        }
    }
}

#[test]
fn a_batch_begins_only_when_its_rows_are_durable() {
    let mut world = world(StateScope::None, POLICY);
    send(&mut world, 4);
    assert_eq!(world.running[&JobId(1)].after_durable, Some(Pace::Prompt));
    world.finish(JobId(1), all_done());
    world.deliver(message("single/x", "d", "1"));
    assert_eq!(world.running[&world.the_job()].after_durable, None);
}

/// What saves writes is not undone by the start of a batch; a suspect waits for nobody's savings.
#[test]
fn a_batch_waits_for_its_rows_as_its_trigger_says() {
    let spec = FunctionSpec { state: StateScope::None, ..function("a/f") };
    let batch = TriggerSpec {
        batch: Some(BatchPolicy { window_ms: 0, ..POLICY }),
        durability: Durability::Thrifty,
        ..trigger("a/t", "a/f", "in/#")
    };
    let live = release(1, vec![spec], vec![batch]);
    let mut world = World::with(settings(), &[&live]);
    send(&mut world, 1);
    assert_eq!(world.running[&JobId(1)].after_durable, Some(Pace::Thrifty));
    world.commit();
    die(&mut world, &live);
    assert_eq!(world.running[&JobId(1)].after_durable, Some(Pace::Prompt));
}

#[test]
fn a_crash_in_a_batch_is_no_crash_alone() {
    let mut settings = settings();
    settings.limits.crashes_max = 1;
    let live = batched(StateScope::None, POLICY);
    let mut world = World::with(settings, &[&live]);
    send(&mut world, 4);
    world.commit();
    die(&mut world, &live);
    assert_eq!((world.letters().len(), world.applied.jobs.len()), (0, 4));
    assert_eq!(running(&world), [[1], [2], [3], [4]]);
    send(&mut world, 4);
    work_off(&mut world, &[]);
    let batches = |event: &CoreEvent| matches!(event, CoreEvent::BatchStarted { size: 4, .. });
    assert_eq!(world.saw(batches), 2, "what came later goes together");
}
