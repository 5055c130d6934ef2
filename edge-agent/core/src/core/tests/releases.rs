//! Revisions: swap, probation, take-back; and schedules, which come with them.

use super::*;
use crate::op::DeadReason;
use crate::release::MissedSlots;
use crate::schedule::Schedule;

fn revision(n: u8) -> Arc<Release> {
    release(n, vec![function("a/f")], vec![trigger("a/t", "a/f", "in/#")])
}

fn on_probation(world: &mut World, n: u8, policy: ProbationPolicy) {
    world.tell(Input::Quiesce { app: "a".into() });
    world.tell(Input::Activate { release: revision(n), probation: Some(policy) });
}

fn quiesced() -> Effect {
    Effect::Quiesced { app: "a".into() }
}

fn failed(effects: &[Effect]) -> bool {
    effects.iter().any(|e| matches!(e, Effect::ProbationFailed { .. }))
}

#[test]
fn a_swap_waits_for_running_attempts_and_loses_nothing() {
    let mut world = World::with(settings(), &[&revision(1)]);
    world.deliver(message("in/x", "d", "1"));
    world.deliver(message("in/x", "e", "2"));
    let out = world.tell(Input::Quiesce { app: "a".into() });
    assert!(!out.contains(&quiesced()));
    let while_quiet = world.deliver(message("in/x", "d", "3"));
    assert!(world.answer(while_quiet).is_some(), "messages are taken meanwhile");
    world.finish(JobId(1), done());
    let out = world.finish(JobId(2), done());
    assert!(out.contains(&quiesced()) && world.running.is_empty());
    world.tell(Input::Activate { release: revision(2), probation: None });
    assert_eq!(world.running[&world.the_job()].revision, Digest([2; 32]));
    world.tell(Input::Quiesce { app: "a".into() });
    world.tell(Input::Resume { app: "a".into() });
    world.deliver(message("in/x", "e", "4"));
    assert_eq!(world.running.len(), 2, "called off: goes on");
    assert!(world.tell(Input::Quiesce { app: "unknown".into() }).len() == 1);
}

#[test]
#[should_panic(expected = "when nothing of it runs")]
fn a_running_app_is_not_swapped() {
    let mut world = World::with(settings(), &[&revision(1)]);
    world.deliver(message("in/x", "d", "1"));
    world.tell(Input::Activate { release: revision(2), probation: None });
}

#[test]
fn a_trap_on_probation_costs_the_event_nothing() {
    let mut world = World::with(settings(), &[&revision(1)]);
    on_probation(&mut world, 2, ProbationPolicy::default());
    world.deliver(message("in/x", "d", "1"));
    world.deliver(message("in/x", "d", "2"));
    world.deliver(message("in/x", "e", "3"));
    let out = world.finish(JobId(1), trap());
    assert!(failed(&out) && world.running.len() == 1, "nothing new starts: {out:?}");
    assert!(world.applied.probations["a"].failed.is_some());
    world.tell(Input::Quiesce { app: "a".into() });
    let out = world.finish(JobId(3), puts("k", "from the bad one"));
    assert!(out.contains(&quiesced()));
    assert!(world.applied.state.is_empty(), "not even a good outcome is taken");
    world.tell(Input::Activate { release: revision(1), probation: None });
    assert!(world.applied.probations.is_empty());
    for job in [1, 3] {
        let attempt = &world.running[&JobId(job)];
        assert_eq!((attempt.work.first().tries, attempt.revision), (1, Digest([1; 32])));
    }
    world.finish(JobId(1), done());
    assert!(world.running.contains_key(&JobId(2)), "in its order");
}

#[test]
fn a_revision_passes_after_good_attempts_or_time() {
    let policy = ProbationPolicy {
        faults_max: 2,
        successes: Some(2),
        span: None,
        ..ProbationPolicy::default()
    };
    let mut world = World::with(settings(), &[&revision(1)]);
    on_probation(&mut world, 2, policy);
    world.deliver(message("in/x", "d", "1"));
    assert!(!failed(&world.finish_the_job(trap())), "one fault is allowed");
    assert_eq!(world.running[&JobId(1)].work.first().tries, 1, "and not counted");
    world.finish_the_job(done());
    world.deliver(message("in/x", "d", "2"));
    let out = world.finish_the_job(done());
    let passed = Effect::ProbationPassed { app: "a".into(), revision: Digest([2; 32]) };
    assert!(out.contains(&passed) && world.applied.probations.is_empty());
    world.deliver(message("in/x", "d", "3"));
    world.finish_the_job(trap());
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::Retrying { .. })), 1, "now it counts");

    let mut world = World::with(settings(), &[&revision(1)]);
    on_probation(&mut world, 2, ProbationPolicy::default());
    world.pass_with_deadlines(59_999);
    assert!(world.told.iter().all(|effect| *effect != passed));
    assert!(world.pass(1).contains(&passed));
}

#[test]
fn a_held_probation_goes_on_until_it_is_ended() {
    let policy = ProbationPolicy { held: true, ..ProbationPolicy::default() };
    let passed = Effect::ProbationPassed { app: "a".into(), revision: Digest([2; 32]) };
    let held = || {
        let mut world = World::with(settings(), &[&revision(1)]);
        on_probation(&mut world, 2, policy);
        world.pass_with_deadlines(59_999);
        assert!(world.pass(1).contains(&passed), "it is told");
        world
    };
    let mut world = held();
    assert!(world.applied.probations.contains_key("a"));
    world.deliver(message("in/x", "d", "1"));
    assert!(failed(&world.finish_the_job(trap())), "it can fail all the same");

    let mut world = held();
    let before = world.told.len();
    world.pass_with_deadlines(600_000);
    assert!(!world.told[before..].contains(&passed), "told once");
    world.tell(Input::EndProbation { app: "a".into(), revision: Digest([1; 32]) });
    assert!(world.applied.probations.contains_key("a"), "that was another one");
    world.tell(Input::EndProbation { app: "a".into(), revision: Digest([2; 32]) });
    assert!(world.applied.probations.is_empty());
    world.deliver(message("in/x", "d", "1"));
    assert!(!failed(&world.finish_the_job(trap())));
}

#[test]
fn one_end_of_the_process_is_one_crash_of_a_revision_on_probation() {
    let mut world = World::with(settings(), &[&revision(1)]);
    on_probation(&mut world, 2, ProbationPolicy::default());
    for device in ["d", "e", "f"] {
        world.deliver(message("in/x", device, "1"));
    }
    world.commit();
    let crumbs: Vec<Attempt> = world.running.values().cloned().collect();
    assert_eq!(crumbs.len(), 3);
    world.crash();
    let probation = Some(ProbationPolicy::default());
    world.tell(Input::Activate { release: revision(2), probation });
    for attempt in &crumbs {
        let out = world.tell(Input::Crashed(crumb(attempt, false)));
        assert!(!failed(&out));
    }
    assert_eq!(world.applied.probations["a"].crashes, 1);
}

#[test]
fn three_crashes_fail_a_probation_and_no_event_dies_of_it() {
    let mut world = World::with(settings(), &[&revision(1)]);
    on_probation(&mut world, 2, ProbationPolicy::default());
    world.deliver(message("in/x", "d", "1"));
    for crash in 1..=3 {
        let crumb = crumb(&world.running[&JobId(1)], true);
        world.commit();
        world.crash();
        let probation = Some(ProbationPolicy::default());
        world.tell(Input::Activate { release: revision(2), probation });
        let out = world.tell(Input::Crashed(crumb.clone()));
        let again = world.tell(Input::Crashed(crumb));
        assert_eq!(world.saw(|e| matches!(e, CoreEvent::StaleBreadcrumb { .. })), crash);
        assert_eq!(failed(&out), crash == 3, "{again:?}");
        world.tell(Input::Started);
        assert_eq!(world.running.is_empty(), crash == 3);
    }
    world.commit();
    world.crash();
    let probation = Some(ProbationPolicy::default());
    let out = world.tell(Input::Activate { release: revision(2), probation });
    assert!(failed(&out), "told again: nobody may have heard it");
    world.tell(Input::Started);
    world.tell(Input::Activate { release: revision(1), probation: None });
    assert_eq!(world.running[&JobId(1)].work.first().tries, 1);
    assert!(world.letters().is_empty());
}

#[test]
fn jobs_of_what_a_revision_no_longer_has_are_dead_letters() {
    let functions = vec![function("a/f"), function("a/g")];
    let triggers = vec![
        trigger("a/t", "a/f", "in/#"),
        trigger("a/old", "a/f", "old/#"),
        trigger("a/u", "a/g", "g/#"),
    ];
    let mut settings = settings();
    settings.safe_mode = true; // all wait
    let mut world = World::with(settings, &[&release(1, functions, triggers)]);
    for topic in ["in/x", "old/x", "g/x", "g/x"] {
        world.deliver(message(topic, "d", "x"));
    }
    world.tell(Input::Activate { release: revision(2), probation: None });
    assert_eq!(world.letters(), vec![DeadReason::FunctionGone; 3]);
    assert_eq!(world.core.status(world.now()).jobs, 1);
    let gone = world.deliver(message("old/x", "d", "x"));
    assert_eq!(world.answer(gone), Some(Verdict::Accepted { jobs: 0 }));
    world.tell(Input::Deactivate { app: "a".into() });
    assert_eq!(world.letters().len(), 4);
    let status = world.core.status(world.now());
    assert!(status.functions.is_empty() && status.apps.is_empty() && status.jobs == 0);
}

#[test]
fn a_change_of_the_state_scope_lays_the_lanes_anew() {
    let mut settings = settings();
    settings.safe_mode = true;
    let mut world = World::with(settings.clone(), &[&revision(1)]);
    for device in ["d", "e", "d"] {
        world.deliver(message("in/x", device, "x"));
    }
    world.commit();
    world.settings.safe_mode = false;
    world.crash();
    let mut one_lane = function("a/f");
    one_lane.state = StateScope::Function;
    let next = release(2, vec![one_lane], vec![trigger("a/t", "a/f", "in/#")]);
    world.tell(Input::Activate { release: next, probation: None });
    world.tell(Input::Started);
    for job in 1..=3 {
        assert_eq!(world.running[&world.the_job()].lane, LaneKey::Function);
        assert_eq!(world.the_job(), JobId(job), "in order of arrival");
        world.finish_the_job(done());
    }
}

#[test]
fn held_deliveries_follow_the_revision() {
    let mut spec = function("a/f");
    spec.concurrency = 1;
    let first = release(1, vec![spec], vec![trigger("a/t", "a/f", "in/#")]);
    let mut world = World::with(settings(), &[&first]);
    for n in 0..20 {
        world.deliver(message("in/x", "d", &n.to_string()));
    }
    let held = world.deliver(message("in/x", "d", "held"));
    world.tell(Input::Quiesce { app: "a".into() });
    world.finish(JobId(1), trap()); // keeps its place
    assert_eq!(world.answer(held), None);
    world.tell(Input::Deactivate { app: "a".into() });
    assert_eq!(world.answer(held), Some(Verdict::Accepted { jobs: 0 }));
}

#[test]
fn a_slot_and_its_mark_enter_one_batch() {
    let mut hourly = trigger("a/t", "a/f", "x");
    let schedule = Schedule::parse("cron(0 * * * ? *)").unwrap();
    hourly.source = TriggerSource::Schedule { schedule, missed: MissedSlots::Once };
    let release = release(1, vec![function("a/f")], vec![hourly]);
    let mut world = World::new(settings());
    world.wall = WallTime { unix_ms: 1_795_392_000_000, quality: ClockQuality::Synced };
    world.tell(Input::Activate { release: release.clone(), probation: None });
    world.tell(Input::Started);
    world.pass_with_deadlines(3_600_000);
    let slot = 1_795_392_000 + 3_600;
    assert_eq!(world.applied.marks[&TriggerId::new("a/t")], slot);
    let event = &world.running[&world.the_job()].work.first().event;
    assert_eq!((event.time.unix_ms, event.topic.as_str()), (slot * 1_000, ""));
    world.commit();
    world.crash();
    world.tell(Input::Activate { release, probation: None });
    world.tell(Input::Started);
    assert_eq!(world.core.status(world.now()).jobs, 1, "not again");
    world.at += 5 * 3_600_000;
    world.wall.unix_ms += 5 * 3_600_000;
    world.tell(Input::Tick);
    assert_eq!(world.core.status(world.now()).jobs, 2, "one event for five slots");
}

/// Without any clock that somebody vouches for: rates run, with the label that there is.
#[test]
fn a_rate_fires_without_a_synced_clock_and_goes_on_over_a_restart() {
    let mut minutely = trigger("a/t", "a/f", "x");
    let schedule = Schedule::parse("rate(1 minute)").unwrap();
    minutely.source = TriggerSource::Schedule { schedule, missed: MissedSlots::Skip };
    let release = release(1, vec![function("a/f")], vec![minutely]);
    let mut world = World::with(settings(), &[&release]);
    let mut fired = Vec::new();
    for _ in 0..2 {
        for _ in 0..3 {
            world.pass_with_deadlines(60_000);
            fired.push((world.at, world.running[&world.the_job()].work.first().event.time));
            world.finish_the_job(done());
        }
        world.commit();
        world.crash();
        world.tell(Input::Activate { release: release.clone(), probation: None });
        world.tell(Input::Started);
        assert!(world.running.is_empty(), "no slot is used twice");
    }
    assert_eq!(world.saw(|event| matches!(event, CoreEvent::SlotFired { .. })), 6);
    assert_eq!(world.saw(|event| matches!(event, CoreEvent::SlotsMissed { .. })), 0);
    assert!(fired.iter().all(|(_, time)| time.quality == ClockQuality::Unsynced), "{fired:?}");
}

/// A full store is not filled further: slots are missed as if there was no power.
#[test]
fn without_room_no_slot_makes_an_event() {
    let hourly = |missed| {
        let schedule = Schedule::parse("rate(1 hour)").unwrap();
        let source = TriggerSource::Schedule { schedule, missed };
        TriggerSpec { source, ..trigger("a/t", "a/f", "in/#") }
    };
    for (missed, expected) in [(MissedSlots::Skip, 2), (MissedSlots::Once, 3)] {
        let release = release(1, vec![function("a/f")], vec![hourly(missed)]);
        let mut world = World::with(settings(), &[&release]);
        let pass = |world: &mut World, half_hours: u64| {
            for _ in 0..half_hours {
                world.at += 30 * 60_000;
                world.tell(Input::Tick);
                while let Some(attempt) = world.running.values().next().cloned() {
                    world.finish(attempt.job(), Outcome::Done(Outputs::default()));
                }
            }
        };
        let fired = |world: &World| world.saw(|e| matches!(e, CoreEvent::SlotFired { .. }));
        pass(&mut world, 2);
        assert_eq!(fired(&world), 1);
        world.tell(Input::Room { full: true });
        pass(&mut world, 61);
        assert_eq!(fired(&world), 1, "no room");
        assert_eq!(world.core.next_deadline(), None, "nobody is woken for that");
        world.tell(Input::Room { full: false });
        pass(&mut world, 1);
        assert_eq!(fired(&world), expected, "{missed:?}");
    }
}
