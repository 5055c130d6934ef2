//! Batches: what a function says of each event, and what it did for whom.

use std::sync::Arc;

use edge_agent::runtime::{MemoryState, Needs, PrepareError, Prepared, Report};
use edge_core::effect::{Member, Work};
use edge_core::id::{DeviceId, JobId, LaneKey};
use edge_core::outcome::{
    BatchOutputs, FaultKind, ItemFailureKind, Outcome, Outputs, Segment, StateChange,
};

use edge_agent::runtime::Attempt;

use super::harness::{
    component, event, fault, lane, member, prepare, prepare_with, profile, run, runtime,
};

fn members(payloads: &[&str]) -> Vec<Member> {
    payloads.iter().map(|payload| member(event("t", payload.as_bytes()))).collect()
}

fn run_batch(prepared: &Prepared, lane: LaneKey, payloads: &[&str]) -> Report {
    let work = Work::Batch(members(payloads));
    prepared.run(&Attempt { work, lane, state: Arc::<MemoryState>::default() })
}

#[track_caller]
fn done(report: Report) -> BatchOutputs {
    match report.outcome {
        Outcome::BatchDone(batch) => batch,
        other => panic!("not done: {other:?}"),
    }
}

/// For whom, and what was published.
fn told(batch: &BatchOutputs) -> Vec<(Option<u16>, String)> {
    let text = |segment: &Segment| {
        let published = segment.outputs.publishes.iter();
        published.map(|publish| String::from_utf8_lossy(&publish.payload).into_owned()).collect()
    };
    batch.segments.iter().map(|segment| (segment.of, text(segment))).collect()
}

#[test]
fn outputs_come_by_event_and_failures_by_index() {
    let batcher = prepare("batcher");
    let payloads = ["a", "reject b", "c", "retry d"];
    let batch = done(run_batch(&batcher, LaneKey::Job(JobId(1)), &payloads));
    let text = |text: &str| text.to_owned();
    let expected = [
        (Some(0), text("a")),
        (Some(1), text("reject b")),
        (Some(2), text("c")),
        (Some(3), text("retry d")),
        (None, text("2")),
    ];
    assert_eq!(told(&batch), expected);
    let failures: Vec<_> =
        batch.failures.iter().map(|one| (one.index, one.kind, one.reason.as_str())).collect();
    let expected = [
        (1, ItemFailureKind::Reject, "asked to"),
        (3, ItemFailureKind::Retry, "asked to, in attempt 1"),
    ];
    assert_eq!(failures, expected);

    let in_order = done(run_batch(&batcher, lane(), &payloads));
    assert_eq!(told(&in_order)[2..], [(None, text("1"))], "it stops at the first failure");
    let all = run_batch(&batcher, lane(), &["a", "all-retry"]);
    assert_eq!(all.outcome, Outcome::Retry { reason: text("asked to, for all 2") });
    let one = done(run_batch(&batcher, lane(), &["a"]));
    assert_eq!(told(&one), [(Some(0), text("a")), (None, text("1"))]);
}

/// Each segment has the changes of its own, and reads see those of the segments before.
#[test]
fn state_changes_stand_in_the_segment_that_made_them() {
    let batcher = prepare_with("batcher", |profile| {
        profile.grants.config.insert("count".to_owned(), "true".to_owned());
    });
    let batch = done(run_batch(&batcher, lane(), &["a", "b", "c"]));
    let states: Vec<_> = batch.segments.iter().map(|one| one.outputs.state.clone()).collect();
    let n = |n: &'static str| vec![StateChange { key: "n".into(), value: Some(n.into()) }];
    assert_eq!(states, [n("1"), n("2"), n("3"), Vec::new()]);
}

#[test]
fn limits_are_those_of_the_whole_batch() {
    let batcher = prepare_with("batcher", |profile| profile.limits.publishes = 3);
    let told = fault(run_batch(&batcher, lane(), &["a", "b", "c"]));
    assert_eq!(told.kind, FaultKind::Outputs);
    assert!(told.message.contains("raise `publishes`"), "{}", told.message);
}

#[test]
fn an_event_that_is_not_there_is_a_fault() {
    let batcher = prepare("batcher");
    let cases = [
        ("beyond", "`for-event` names the event at 2, but the batch has 2"),
        ("misnamed", "`handle-batch` names the event at 2, but the batch has 2"),
    ];
    for (payload, words) in cases {
        let told = fault(run_batch(&batcher, lane(), &["a", payload]));
        assert_eq!(told.kind, FaultKind::Outputs);
        assert!(told.message.contains(words), "{}", told.message);
    }
    let alone = fault(run(&prepare("rogue"), "rogue/for-event", b""));
    assert!(alone.message.contains("only be called in `handle-batch`"), "{}", alone.message);
}

#[test]
fn a_trap_fails_the_batch_and_names_the_authors_function() {
    let told = fault(run_batch(&prepare("batcher"), lane(), &["a", "trap b"]));
    assert_eq!(told.kind, FaultKind::Trap);
    assert!(told.message.contains("asked to, with 2"), "{}", told.message);
    assert!(!told.message.contains("function_sdk::host::contract"), "{}", told.message);
}

#[test]
fn lines_of_the_log_name_their_event() {
    let batch = run_batch(&prepare("batcher"), lane(), &["a", "trap b"]);
    let of: Vec<Option<u16>> = batch.logs.iter().map(|line| line.of).collect();
    assert_eq!(of, [Some(1)], "the panic");
}

#[test]
fn a_function_exports_what_its_triggers_call() {
    let needs = |example: &'static str, handler, batch_handler| {
        let mut profile = profile(example);
        profile.needs = Needs { handler, batch_handler };
        runtime().prepare(&component(example), profile).map(drop)
    };
    assert!(needs("batcher", true, true).is_ok());
    assert!(needs("batch_only", false, true).is_ok());
    assert!(needs("counter", true, false).is_ok());
    let error = needs("counter", false, true).unwrap_err();
    assert!(matches!(error, PrepareError::NoBatchHandler { .. }));
    assert!(error.to_string().contains("take `batch` out of the trigger"), "{error}");
    let error = needs("batch_only", true, true).unwrap_err();
    assert!(matches!(error, PrepareError::NoEventHandler { .. }));
    assert!(error.to_string().contains("export!(NAME, batch: NAME);"), "{error}");
}

#[test]
fn a_function_with_both_takes_single_events_too() {
    let alone = run(&prepare("batcher"), "t", b"x");
    let Outcome::Done(Outputs { publishes, .. }) = alone.outcome else { panic!("{alone:?}") };
    assert_eq!(publishes[0].topic.as_str(), "batch/alone");
}

#[test]
fn what_takes_batches_carries_state_over_as_well() {
    let batch_only = prepare("batch_only");
    assert!(batch_only.can_migrate() && batch_only.takes_batches() && !batch_only.takes_events());
    let entries = vec![("n".to_owned(), "7".into())];
    let device = DeviceId::new("m1");
    assert_eq!(batch_only.migrate(1, Some(&device), entries.clone()), Ok(entries));
}
