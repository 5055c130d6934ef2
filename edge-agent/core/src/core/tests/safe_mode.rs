//! After a crash loop: messages are kept, deployments go on, nothing runs.

use super::*;

fn safe() -> World {
    let mut settings = settings();
    settings.safe_mode = true;
    World::with(settings, &[&simple()])
}

#[test]
fn messages_are_taken_and_wait() {
    let mut world = safe();
    let delivery = world.deliver(message("in/x", "d", "1"));
    assert_eq!(world.answer(delivery), Some(Verdict::Accepted { jobs: 1 }));
    assert!(world.running.is_empty() && world.core.status(world.now()).safe_mode);
    world.tell(Input::LeaveSafeMode);
    assert_eq!((world.running.len(), world.core.is_in_safe_mode()), (1, false));
    world.tell(Input::LeaveSafeMode);
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::SafeModeLeft)), 1);
}

#[test]
fn acks_wait_for_room_as_long_as_it_takes() {
    let mut world = safe();
    for n in 0..20 {
        world.deliver(message("in/x", "d", &n.to_string()));
    }
    let held = world.deliver(message("in/x", "d", "held"));
    world.pass_with_deadlines(600_000);
    assert_eq!(world.answer(held), None, "its device keeps it");
    world.tell(Input::LeaveSafeMode);
    world.pass_with_deadlines(9_999);
    assert_eq!(world.answer(held), None);
    world.finish_the_job(done());
    assert_eq!(world.answer(held), Some(Verdict::Accepted { jobs: 1 }));
    let held = world.deliver(message("in/x", "d", "late"));
    world.pass_with_deadlines(10_000);
    assert_eq!(world.answer(held), Some(Verdict::Shed { jobs: 0, shed: 1 }), "as usual again");
}

#[test]
fn a_mended_revision_comes_and_proves_itself_afterwards() {
    let mut world = safe();
    world.deliver(message("in/x", "d", "1"));
    world.tell(Input::Quiesce { app: "a".into() });
    assert!(world.told.contains(&Effect::Quiesced { app: "a".into() }));
    let mended = Arc::new(Release { revision: Digest([2; 32]), ..(*simple()).clone() });
    let probation = Some(ProbationPolicy::default());
    world.tell(Input::Activate { release: mended, probation });
    world.pass_with_deadlines(600_000);
    let passed = |effect: &Effect| matches!(effect, Effect::ProbationPassed { .. });
    assert!(!world.told.iter().any(passed), "nothing ran");
    world.tell(Input::LeaveSafeMode);
    assert_eq!(world.running[&world.the_job()].revision, Digest([2; 32]));
    assert_eq!(world.applied.probations["a"].since, Millis(world.at));
    world.pass_with_deadlines(59_999);
    assert!(!world.told.iter().any(passed));
    world.pass(1);
    assert!(world.told.iter().any(passed));
}
