//! How old an event may become: while it waits, while nothing runs, by which clock.

use super::*;
use crate::op::DeadReason;
use crate::release::Jitter;

const HOUR: u64 = 3_600_000;

/// `a/f` on `in/#`, whose events may become an hour old.
fn an_hour(age_by_wall: bool) -> Arc<Release> {
    let mut trigger = trigger("a/t", "a/f", "in/#");
    trigger.retry.age_max = Millis(HOUR);
    trigger.retry.age_by_wall = age_by_wall;
    release(1, vec![function("a/f")], vec![trigger])
}

fn synced(unix_ms: u64) -> WallTime {
    WallTime { unix_ms, quality: ClockQuality::Synced }
}

/// Dies, is without power for so long, and starts again.
fn without_power(world: &mut World, ms: u64, release: &Arc<Release>, clock: ClockQuality) {
    world.commit();
    world.crash();
    world.wall.unix_ms += ms;
    world.wall.quality = clock;
    world.tell(Input::Activate { release: release.clone(), probation: None });
    world.tell(Input::Started);
}

#[test]
fn an_event_behind_others_in_its_lane_becomes_too_old() {
    let mut world = World::with(settings(), &[&an_hour(false)]);
    world.deliver(message("in/x", "d", "1"));
    world.deliver(message("in/x", "d", "2"));
    world.pass_with_deadlines(HOUR);
    assert_eq!(world.letters(), [DeadReason::TooOld], "the second, while the first still runs");
    world.finish_the_job(done());
    assert!(world.running.is_empty());
}

#[test]
fn an_event_of_a_paused_function_becomes_too_old() {
    let mut release = (*an_hour(false)).clone();
    let long = Millis(2 * HOUR);
    release.functions[0].pause = PausePolicy { after: 1, ms_min: long, ms_max: long };
    let mut world = World::with(settings(), &[&Arc::new(release)]);
    world.deliver(message("in/x", "d", "1"));
    world.finish_the_job(trap());
    world.deliver(message("in/x", "e", "2"));
    assert!(world.running.is_empty(), "it is paused");
    world.pass_with_deadlines(HOUR);
    assert_eq!(world.letters(), [DeadReason::TooOld, DeadReason::TooOld]);
}

#[test]
fn what_is_too_old_after_a_restart_does_not_start() {
    let release = an_hour(false);
    let mut world = World::with(settings(), &[&release]);
    world.deliver(message("in/x", "d", "1"));
    world.commit();
    world.crash();
    // The gateway ran for that long; the shell only tells of it now.
    world.at += HOUR;
    world.tell(Input::Activate { release, probation: None });
    world.tell(Input::Started);
    assert_eq!(world.letters(), [DeadReason::TooOld]);
    assert!(world.running.is_empty());
    assert_eq!(world.saw(|event| matches!(event, CoreEvent::Started { .. })), 1);
}

#[test]
fn time_without_power_ages_only_by_the_wall_clock_and_only_if_synced() {
    for (by_wall, before, after, letters) in [
        (false, ClockQuality::Synced, ClockQuality::Synced, 0),
        (true, ClockQuality::Synced, ClockQuality::Synced, 1),
        (true, ClockQuality::Unsynced, ClockQuality::Synced, 0),
        (true, ClockQuality::Synced, ClockQuality::Unsynced, 0),
    ] {
        let release = an_hour(by_wall);
        let mut world = World::with(settings(), &[&release]);
        world.wall = WallTime { unix_ms: 1_700_000_000_000, quality: before };
        world.deliver(message("in/x", "d", "1"));
        without_power(&mut world, 2 * HOUR, &release, after);
        assert_eq!(world.letters().len(), letters, "{by_wall} {before:?} {after:?}");
        assert_eq!(world.running.len(), 1 - letters);
    }
}

#[test]
fn the_wall_age_counts_from_when_the_clock_is_synced_again() {
    let release = an_hour(true);
    let mut world = World::with(settings(), &[&release]);
    world.wall = synced(1_700_000_000_000);
    world.deliver(message("in/x", "d", "1"));
    world.finish_the_job(trap());
    world.deliver(message("in/x", "e", "2"));
    without_power(&mut world, 59 * 60_000, &release, ClockQuality::Unsynced);
    assert_eq!(world.running.len(), 1, "the other waits for its retry");
    world.wall.quality = ClockQuality::Synced;
    world.tell(Input::Tick);
    assert_eq!(world.letters().len(), 0, "a minute is left");
    world.pass_with_deadlines(60_000);
    assert_eq!(world.letters(), [DeadReason::TooOld], "less than the retry that comes then");
    assert_eq!(world.running.len(), 1, "the one at work may end well");
    world.finish_the_job(trap());
    assert_eq!(world.letters().len(), 2, "but is not tried again");
}

#[test]
fn a_wall_clock_that_was_set_back_makes_nothing_older_or_younger() {
    let release = an_hour(true);
    let mut world = World::with(settings(), &[&release]);
    world.wall = synced(1_700_000_000_000);
    world.deliver(message("in/x", "d", "1"));
    world.finish_the_job(trap());
    world.wall = synced(0);
    world.tell(Input::Activate { release, probation: None });
    world.pass(60_000);
    assert_eq!(world.running.len(), 1);
}

#[test]
fn a_redriven_letter_is_young_again() {
    let mut world = World::with(settings(), &[&an_hour(true)]);
    world.wall = synced(1_700_000_000_000);
    world.deliver(message("in/x", "d", "1"));
    world.finish_the_job(Outcome::Reject { reason: "no".into() });
    let letter = world.applied.letters.values().next().unwrap().clone();
    world.pass(2 * HOUR);
    world.tell(Input::Redrive { letter: Box::new(letter) });
    assert_eq!(world.running.len(), 1);
    assert_eq!(world.letters(), []);
}

#[test]
fn jitter_draws_waits_between_zero_and_the_whole() {
    let mut trigger = trigger("a/t", "a/f", "in/#");
    trigger.retry.jitter = Jitter::Full;
    let mut wide = function("a/f");
    wide.concurrency = 16;
    let mut world = World::with(settings(), &[&release(1, vec![wide], vec![trigger])]);
    for n in 0..4 {
        world.deliver(message("in/x", &format!("d{n}"), "1"));
    }
    let jobs: Vec<JobId> = world.running.keys().copied().collect();
    jobs.iter().for_each(|job| drop(world.finish(*job, trap())));
    let mut waits = BTreeSet::new();
    for event in &world.events {
        if let CoreEvent::Retrying { not_before, .. } = event {
            assert!((world.at..=world.at + 60_000).contains(&not_before.0));
            waits.insert(*not_before);
        }
    }
    assert_eq!(waits.len(), 4, "each its own");
}
