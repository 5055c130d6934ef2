//! Crashes of the process, and what is known after them.

use super::*;
use crate::op::{DeadReason, DropReason};

fn restart(world: &mut World) {
    world.crash();
    world.tell(Input::Activate { release: simple(), probation: None });
}

#[test]
fn what_was_not_durable_never_happened() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    world.commit();
    world.finish_the_job(puts("k", "v"));
    let lost = world.deliver(message("in/x", "d", "2"));
    restart(&mut world);
    world.tell(Input::Started);
    assert!(!world.acked.contains_key(&lost));
    assert_eq!(world.running[&world.the_job()].work.first().event.payload, "1");
    assert!(world.applied.state.is_empty());
}

#[test]
fn nothing_starts_before_all_is_told() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    world.commit();
    restart(&mut world);
    assert!(world.running.is_empty());
    world.tell(Input::Started);
    assert_eq!(world.running.len(), 1);
}

/// The process dies, and the next one reads what every worker was at.
fn die(world: &mut World) {
    let crumbs: Vec<Attempt> = world.running.values().cloned().collect();
    restart(world);
    let alone = crumbs.len() == 1;
    for attempt in &crumbs {
        world.tell(Input::Crashed(crumb(attempt, alone)));
    }
    world.tell(Input::Started);
    world.commit();
}

#[test]
fn a_message_that_kills_the_process_is_given_up_after_two_tries() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "killer"));
    world.deliver(message("in/x", "d", "next"));
    world.deliver(message("in/x", "e", "beside"));
    world.deliver(message("in/x", "f", "beside too"));
    world.commit();
    assert_eq!(world.running.len(), 3);
    die(&mut world);
    assert_eq!(world.the_job(), JobId(1), "alone");
    assert_eq!(world.running[&JobId(1)].work.first().tries, 2);
    die(&mut world);
    assert_eq!(world.letters(), [DeadReason::Crashed], "only the one to blame");
    let waiting: Vec<_> = world.applied.jobs.values().map(|j| j.event.payload.clone()).collect();
    assert_eq!(waiting, ["next", "beside", "beside too"]);

    // The others were beside it: each has its run alone, and is then like any other.
    for innocent in [JobId(3), JobId(4)] {
        assert_eq!(world.the_job(), innocent);
        world.finish_the_job(puts("k", "v"));
    }
    assert_eq!(world.the_job(), JobId(2));
    assert_eq!(world.letters().len(), 1);
}

#[test]
fn only_a_crash_alone_is_the_last_one() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    world.commit();
    for (alone, crashes) in [(false, 1), (false, 1), (true, 2)] {
        let crumb = crumb(&world.running[&JobId(1)], alone);
        restart(&mut world);
        let out = world.tell(Input::Crashed(crumb));
        let counted = out.iter().find_map(|effect| match effect {
            Effect::Event(CoreEvent::CrashCounted { crashes, .. }) => Some(*crashes),
            _ => None,
        });
        assert_eq!(counted, Some(crashes), "{alone}");
        world.tell(Input::Started);
        world.commit();
    }
    assert_eq!(world.letters(), [DeadReason::Crashed]);
}

#[test]
fn a_message_that_kills_before_it_is_durable_has_one_crash_behind_it_when_it_comes_again() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "killer"));
    assert!(world.running.contains_key(&JobId(1)), "it starts before it is durable");
    die(&mut world);
    assert!(world.running.is_empty() && world.applied.jobs.is_empty());

    // Nobody acked it: its device sends it again, after others.
    world.deliver(message("in/x", "d", "other"));
    world.deliver(message("in/x", "e", "killer"));
    assert_eq!(world.running.len(), 2);
    world.deliver(message("in/x", "f", "killer"));
    assert!(
        world.running.values().all(|attempt| attempt.after_durable.is_none()),
        "another device's is another"
    );
    for job in [1, 2, 3] {
        world.finish(JobId(job), done());
    }
    world.deliver(message("in/x", "d", "killer"));
    let attempt = &world.running[&world.the_job()];
    assert!(attempt.after_durable.is_some() && attempt.work.first().tries == 2);
    world.commit();
    die(&mut world);
    assert_eq!(world.letters(), [DeadReason::Crashed]);
    world.deliver(message("in/x", "d", "killer"));
    assert_eq!(
        world.running[&world.the_job()].after_durable,
        None,
        "a new message has its own two tries"
    );
}

#[test]
fn a_suspect_waits_for_what_is_in_work_and_nothing_new_begins_meanwhile() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "suspect"));
    world.commit();
    die(&mut world);
    // It fails and waits for its next try; others begin.
    world.finish_the_job(trap());
    world.deliver(message("in/x", "e", "before"));
    assert_eq!(world.the_job(), JobId(2));
    world.pass_with_deadlines(60_000);
    world.deliver(message("in/x", "f", "after"));
    assert_eq!(world.the_job(), JobId(2), "it is being waited for");
    world.finish_the_job(puts("k", "v"));
    assert_eq!(world.the_job(), JobId(1));
    world.finish_the_job(puts("k", "v"));
    assert_eq!(world.the_job(), JobId(3));
}

#[test]
fn a_breadcrumb_of_another_event_or_an_old_run_is_ignored() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    let attempt = world.running[&JobId(1)].clone();
    world.finish_the_job(trap());
    world.commit();
    restart(&mut world);
    let old = crumb(&attempt, true);
    let other_event = Crumb { event: EventId { epoch: Epoch(77), n: 1 }, run: 2, ..old.clone() };
    let other_job = Crumb { job: JobId(9), ..old.clone() };
    for crumb in [old, other_event, other_job] {
        world.tell(Input::Crashed(crumb));
    }
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::StaleBreadcrumb { .. })), 3);
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::CrashCounted { .. })), 0);
    world.tell(Input::Started);
    assert!(world.running.is_empty(), "its retry still has its time");
    world.pass_with_deadlines(60_000);
    let job = &world.running[&attempt.job()];
    assert_eq!((job.work.first().tries, job.run), (2, 2));
}

#[test]
fn an_outcome_from_before_a_rebuild_is_not_taken() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    world.commit();
    let old = world.running[&JobId(1)].attempt;
    restart(&mut world); // a failed commit: same process, the worker goes on
    world.tell(Input::Started);
    assert_ne!(world.running[&JobId(1)].attempt, old);
    let (job, attempt) = (JobId(1), old);
    world.tell(Input::Finished { job, attempt, outcome: puts("k", "stale"), ran_us: 0 });
    assert!(world.applied.state.is_empty() && world.running.contains_key(&job));
}

#[test]
fn jobs_whose_app_is_gone_are_given_up_when_all_is_told() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    world.commit();
    world.crash();
    assert!(world.letters().is_empty());
    assert!(world.core.status(world.now()).functions[0].dormant);
    world.tell(Input::Started);
    assert_eq!(world.letters(), [DeadReason::FunctionGone]);
}

#[test]
fn dead_letters_stay_bounded_over_restarts() {
    let mut settings = settings();
    settings.limits.dead_letters_max = 3;
    let mut world = World::with(settings, &[&simple()]);
    for n in 0..5 {
        world.at += 1;
        world.deliver(message("in/x", "d", &n.to_string()));
        world.finish_the_job(Outcome::Reject { reason: "no".into() });
        world.commit();
        restart(&mut world);
        world.tell(Input::Started);
    }
    let kept: Vec<_> = world.applied.letters.values().map(|l| l.event.payload.clone()).collect();
    assert_eq!(kept, ["2", "3", "4"]);
    assert_eq!(world.applied.bodies(StreamId::URGENT).len(), 5, "all are told upstream");
}

#[test]
fn odd_rows_are_no_trouble() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    let mut rows = world.applied.rows();
    let mut twin = rows.jobs[0].clone();
    rows.jobs.push(twin.clone());
    twin.id = JobId(u64::MAX - 1);
    twin.lane = LaneKey::Job(JobId(3));
    twin.progress.not_before = Millis(u64::MAX);
    rows.jobs.push(twin);
    rows.outbox.push(OutboxRows {
        stream: StreamId(9),
        stored_to: RecordSeq(u64::MAX),
        chunks: vec![OutboxChunk {
            first: RecordSeq(5),
            last: RecordSeq(1),
            bytes: u64::MAX,
            dropped: Some(DropReason::Full),
            gone: Vec::new(),
            expiry: None,
            tally: Vec::new(),
        }],
        tail: Vec::new(),
    });
    let mut core = Core::restore(settings(), rows);
    let mut out = Vec::new();
    core.handle(Input::Activate { release: simple(), probation: None }, world.now(), &mut out);
    core.handle(Input::Started, world.now(), &mut out);
    assert_eq!(out.iter().filter(|e| matches!(e, Effect::Start(_))).count(), 1);
}
