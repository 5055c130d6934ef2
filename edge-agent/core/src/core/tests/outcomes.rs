//! What attempts come to: outputs, retries, dead letters, pauses, lanes.

use super::*;
use crate::op::{DeadReason, RecordBody};

fn with_retry(retry: RetryPolicy) -> Arc<Release> {
    let mut trigger = trigger("a/t", "a/f", "in/#");
    trigger.retry = retry;
    release(1, vec![function("a/f")], vec![trigger])
}

/// `a/f` on `in/#` publishes to `a/g` on `mid/#`.
fn chain(policy: WhenFull) -> Arc<Release> {
    let mut second = function("a/g");
    second.concurrency = 1;
    second.when_full = policy;
    let triggers = vec![trigger("a/t", "a/f", "in/#"), trigger("a/u", "a/g", "mid/#")];
    release(1, vec![function("a/f"), second], triggers)
}

fn ops(effects: &[Effect]) -> Vec<&CoreOp> {
    let mut ops = Vec::new();
    for effect in effects {
        if let Effect::Op(op, _) = effect {
            ops.push(op);
        }
    }
    ops
}

#[test]
fn an_outcome_enters_one_batch_whole() {
    let mut world = World::with(settings(), &[&chain(WhenFull::Hold)]);
    world.deliver(message("in/x", "d", "1"));
    world.commit();
    let mut outputs = Outputs::default();
    outputs.state.push(StateChange { key: "k".into(), value: Some(Bytes::from_static(b"v")) });
    outputs.state.push(StateChange { key: "old".into(), value: None });
    outputs.records.push(Record {
        name: "score".into(),
        payload: Bytes::from_static(b"5"),
        content_type: "text/plain".into(),
    });
    let Outcome::Done(published) = publishes(&["mid/y"]) else { unreachable!() };
    outputs.publishes = published.publishes;
    let effects = world.finish_the_job(Outcome::Done(outputs));
    let [
        CoreOp::FinishJob { job: JobId(1) },
        CoreOp::PutState { key, .. },
        CoreOp::DeleteState { .. },
        CoreOp::AppendOutbox(record),
        CoreOp::AdmitJob(chained),
    ] = ops(&effects)[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((key.state_version, &key.lane), (1, &LaneKey::Device(DeviceId::new("d"))));
    assert_eq!((record.stream, record.seq), (StreamId::NORMAL, RecordSeq(1)));
    assert_eq!((chained.event.hops, chained.event.topic.as_str()), (1, "mid/y"));
    assert_eq!(chained.event.device, Some(DeviceId::new("d")), "on behalf of the device");
    let grew = Effect::OutboxGrew { stream: StreamId::NORMAL, newest: RecordSeq(1) };
    assert!(effects.contains(&grew));
    assert_eq!(world.published.len(), 1);
    assert_eq!(world.the_job(), chained.id, "and it starts");
}

#[test]
fn a_job_without_outputs_causes_no_commit_of_its_own() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    world.commit();
    let effects = world.finish_the_job(done());
    assert!(matches!(effects[0], Effect::Op(CoreOp::FinishJob { .. }, Pace::Lazy)));
}

#[test]
fn an_outcome_of_another_attempt_changes_nothing() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    let attempt = world.running[&JobId(1)].attempt;
    for (job, attempt) in [(1, attempt.0 + 1), (2, attempt.0), (1, 0)] {
        let (job, attempt) = (JobId(job), AttemptId(attempt));
        let effects =
            world.tell(Input::Finished { job, attempt, outcome: puts("k", "v"), ran_us: 0 });
        assert_eq!(effects, [Effect::Event(CoreEvent::StaleOutcome { job, attempt })]);
    }
    world.finish_the_job(puts("k", "v"));
    let effects =
        world.tell(Input::Finished { job: JobId(1), attempt, outcome: done(), ran_us: 0 });
    assert!(ops(&effects).is_empty(), "it ended before");
}

#[test]
fn two_retries_after_one_and_two_minutes_then_a_dead_letter() {
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    world.deliver(message("in/x", "d", "2"));
    for (wait, tries) in [(60_000, 2), (120_000, 3)] {
        let effects = world.finish_the_job(trap());
        assert!(matches!(effects[0], Effect::Op(CoreOp::UpdateJob { .. }, Pace::Lazy)));
        assert!(world.running.is_empty(), "a failing event holds its lane");
        world.pass(wait - 1);
        assert!(world.running.is_empty());
        world.pass(1);
        assert_eq!(world.running[&JobId(1)].work.first().tries, tries);
    }
    world.finish_the_job(trap());
    assert_eq!(world.letters(), [DeadReason::AttemptsExhausted]);
    let letter = world.applied.letters.values().next().unwrap();
    assert_eq!((letter.attempts, letter.error.as_str()), (3, "trap: unreachable"));
    let urgent = world.applied.bodies(StreamId::URGENT);
    assert!(matches!(urgent[..], [RecordBody::DeadLetter(_)]));
    assert_eq!(world.the_job(), JobId(2), "the lane goes on");
}

#[test]
fn a_request_to_retry_counts_and_a_rejection_ends() {
    let retry = RetryPolicy { retries_max: 1, backoff: vec![], ..RetryPolicy::default() };
    let mut world = World::with(settings(), &[&with_retry(retry)]);
    world.deliver(message("in/x", "d", "1"));
    world.finish_the_job(Outcome::Retry { reason: "not yet".into() });
    assert_eq!(world.running[&JobId(1)].work.first().tries, 2, "no backoff: at once");
    world.finish_the_job(Outcome::Retry { reason: "not yet".into() });
    world.deliver(message("in/x", "d", "2"));
    world.finish_the_job(Outcome::Reject { reason: "nonsense".into() });
    assert_eq!(world.letters(), [DeadReason::AttemptsExhausted, DeadReason::Rejected]);
}

#[test]
fn what_is_too_old_is_given_up() {
    let age_max = Millis::from_secs(90);
    let retry = RetryPolicy { age_max, ..RetryPolicy::default() };
    let mut world = World::with(settings(), &[&with_retry(retry)]);
    world.deliver(message("in/x", "d", "1"));
    world.deliver(message("in/x", "e", "2"));
    world.finish(JobId(1), trap());
    world.pass(60_000);
    assert_eq!(world.running.len(), 2);
    world.finish(JobId(1), trap());
    world.pass_with_deadlines(30_000);
    assert_eq!(world.letters(), [DeadReason::TooOld], "while it waited for its next try");
    assert_eq!(world.running.len(), 1, "an attempt under way may end well");
    world.finish_the_job(trap());
    assert_eq!(world.letters(), [DeadReason::TooOld, DeadReason::TooOld]);
}

#[test]
fn lanes_are_in_order_and_beside_each_other() {
    let mut world = World::with(settings(), &[&simple()]);
    for n in 0..3 {
        world.deliver(message("in/x", "d", &n.to_string()));
        world.deliver(message("in/x", "e", &n.to_string()));
    }
    let running = |world: &World| world.running.keys().map(|job| job.0).collect::<Vec<_>>();
    assert_eq!(running(&world), [1, 2]);
    world.finish(JobId(2), done());
    assert_eq!(running(&world), [1, 4]);
    world.finish(JobId(1), done());
    assert_eq!(running(&world), [3, 4]);
}

#[test]
fn a_loop_of_functions_ends_as_dead_letter() {
    let functions = vec![function("a/f")];
    let triggers = vec![trigger("a/t", "a/f", "in/#")];
    let mut world = World::with(settings(), &[&release(1, functions, triggers)]);
    world.deliver(message("in/x", "d", "1"));
    for _ in 0..9 {
        world.finish_the_job(publishes(&["in/again"]));
    }
    assert_eq!(world.letters(), [DeadReason::Loop]);
    assert!(world.running.is_empty());
    assert_eq!(world.published.len(), 9, "subscribers get the last one too");
}

#[test]
fn a_function_that_faults_is_paused_and_tried_again() {
    let mut world = World::with(settings(), &[&pausing(3)]);
    for n in 0..9 {
        world.deliver(message("in/x", &n.to_string(), "x"));
    }
    for _ in 0..3 {
        let job = *world.running.keys().next().unwrap();
        world.finish(job, trap());
    }
    assert_eq!(world.running.len(), 3, "nothing new starts");
    let jobs: Vec<_> = world.running.keys().copied().collect();
    jobs.into_iter().for_each(|job| drop(world.finish(job, trap())));
    let status = world.core.status(world.now());
    assert_eq!(status.functions[0].paused_ms, Some(Millis(5_000)));
    world.pass_with_deadlines(5_000);
    assert_eq!(world.running.len(), 1, "one try");
    world.finish_the_job(trap());
    world.pass_with_deadlines(9_999);
    assert!(world.running.is_empty(), "twice as long");
    world.pass(1);
    world.finish_the_job(done());
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::FunctionResumed { .. })), 1);
    assert!(!world.running.is_empty());
}

#[test]
fn a_function_without_state_writes_none() {
    let mut spec = function("a/f");
    spec.state = StateScope::None;
    let release = release(1, vec![spec], vec![trigger("a/t", "a/f", "in/#")]);
    let mut world = World::with(settings(), &[&release]);
    world.deliver(message("in/x", "d", "1"));
    world.deliver(message("in/x", "d", "2"));
    assert_eq!(world.running.len(), 2, "no order either");
    world.finish(JobId(1), puts("k", "v"));
    assert!(world.applied.state.is_empty());
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::Retrying { .. })), 1);
}

#[test]
fn an_outcome_commits_beyond_the_bound_and_its_function_waits() {
    let mut world = World::with(settings(), &[&chain(WhenFull::Hold)]);
    world.deliver(message("in/x", "d", "1"));
    world.deliver(message("in/x", "d", "2"));
    let many = vec!["mid/x"; 25];
    world.finish(JobId(1), publishes(&many));
    let g = |world: &World| world.core.status(world.now()).functions[1].jobs;
    assert_eq!(g(&world), 25, "5 more than its share");
    let is_f = |a: &Attempt| a.function.as_str() == "a/f";
    assert!(!world.running.values().any(is_f), "the next one of a/f waits");
    for _ in 0..5 {
        world.finish_the_job(done());
    }
    assert!(!world.running.values().any(is_f));
    world.finish_the_job(done());
    assert!(world.running.values().any(is_f), "there is room again");
    let second = world.running.values().find(|a| is_f(a)).unwrap().job();
    world.finish(second, publishes(&many));
    world.deliver(message("in/x", "d", "3"));
    world.pass_with_deadlines(9_999);
    assert!(!world.running.values().any(is_f));
    world.pass(1);
    let third = world.running.values().find(|a| is_f(a)).unwrap().job();
    world.finish(third, publishes(&["mid/x"]));
    assert_eq!(world.letters(), [DeadReason::Shed], "10 s are over");
}

#[test]
fn functions_take_turns_and_none_has_more_than_its_part_of_the_workers() {
    let functions: Vec<_> = ["a/f", "a/g", "a/h"].iter().map(|f| function(f)).collect();
    let triggers = vec![
        trigger("a/t", "a/f", "f/#"),
        trigger("a/u", "a/g", "g/#"),
        trigger("a/v", "a/h", "h/#"),
    ];
    let mut settings = settings();
    settings.worker_slots = 8; // a quarter is 2
    let mut world = World::with(settings, &[&release(1, functions, triggers)]);
    for n in 0..10 {
        world.deliver(message("f/x", &n.to_string(), "x"));
    }
    assert_eq!(world.running.len(), 2, "a quarter of the workers");
    world.deliver(message("g/x", "d", "x"));
    world.deliver(message("h/x", "d", "x"));
    assert_eq!(world.running.len(), 4);

    let mut settings = super::settings();
    settings.worker_slots = 1;
    let functions: Vec<_> = ["a/f", "a/g"].iter().map(|f| function(f)).collect();
    let triggers = vec![trigger("a/t", "a/f", "f/#"), trigger("a/u", "a/g", "g/#")];
    let mut world = World::with(settings, &[&release(1, functions, triggers)]);
    for n in 0..4 {
        world.deliver(message("f/x", &n.to_string(), "x"));
    }
    for n in 0..4 {
        world.deliver(message("g/x", &n.to_string(), "x"));
    }
    let mut order = String::new();
    while !world.running.is_empty() {
        order.push_str(&world.running[&world.the_job()].function.as_str()[2..]);
        world.finish_the_job(done());
    }
    assert_eq!(order, "fgfgfgfg");
}

#[test]
fn a_letter_that_cannot_be_taken_up_again_says_why() {
    use crate::event::RedriveRefusal;
    let mut world = World::with(settings(), &[&simple()]);
    world.deliver(message("in/x", "d", "1"));
    world.finish_the_job(Outcome::Reject { reason: "no".into() });
    let letter = world.applied.letters.values().next().unwrap().clone();
    assert_eq!(world.core.redrive_refusal(&letter), None);
    let share = world.settings.limits.share_jobs();
    for n in 0..share {
        world.deliver(message("in/x", "d", &n.to_string()));
    }
    assert_eq!(world.core.redrive_refusal(&letter), Some(RedriveRefusal::Full));
    world.tell(Input::Redrive { letter: Box::new(letter.clone()) });
    assert_eq!(world.letters().len(), 1, "it stays");
    let mut unknown = letter.clone();
    unknown.function = FunctionId::new("a/g");
    assert_eq!(world.core.redrive_refusal(&unknown), Some(RedriveRefusal::Unknown));
    let renamed = release(2, vec![function("a/f")], vec![trigger("a/other", "a/f", "in/#")]);
    let (job, attempt) = world.running.iter().map(|(job, a)| (*job, a.attempt)).next().unwrap();
    world.tell(Input::Finished { job, attempt, outcome: done(), ran_us: 0 });
    world.tell(Input::Quiesce { app: "a".into() });
    while let Some((job, attempt)) = world.running.iter().map(|(job, a)| (*job, a.attempt)).next() {
        world.tell(Input::Finished { job, attempt, outcome: done(), ran_us: 0 });
    }
    world.tell(Input::Activate { release: renamed, probation: None });
    assert_eq!(world.core.redrive_refusal(&letter), Some(RedriveRefusal::FunctionGone));
    world.tell(Input::Stop);
    assert_eq!(world.core.redrive_refusal(&letter), Some(RedriveRefusal::Stopping));
}

#[test]
fn a_dead_letter_is_taken_up_again_or_forgotten() {
    let mut world = World::with(settings(), &[&simple()]);
    for n in 0..2 {
        world.deliver(message("in/x", "d", &n.to_string()));
        world.finish_the_job(Outcome::Reject { reason: "no".into() });
    }
    let letters: Vec<_> = world.applied.letters.values().cloned().collect();
    world.tell(Input::Redrive { letter: Box::new(letters[0].clone()) });
    world.tell(Input::Redrive { letter: Box::new(letters[0].clone()) });
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::RedriveRefused { .. })), 1);
    assert_eq!(world.running[&world.the_job()].work.first().event.id, letters[0].event.id);
    world.finish_the_job(done());
    let (function, event) = (letters[1].function.clone(), letters[1].event.id);
    world.tell(Input::PurgeDeadLetter { function: function.clone(), event });
    world.tell(Input::PurgeDeadLetter { function, event });
    assert_eq!(world.saw(|e| matches!(e, CoreEvent::Purged { .. })), 1);
    assert!(world.letters().is_empty());
}
