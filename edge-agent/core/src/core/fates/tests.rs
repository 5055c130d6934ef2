use super::*;
use crate::outcome::{ItemFailure, StateChange};

const FIVE: Given = Given { events: 5, batch: true, ordered: true, scope: StateScope::Device };

fn failed(index: u16, kind: ItemFailureKind) -> ItemFailure {
    ItemFailure { index, kind, reason: format!("{index}") }
}

fn segment(of: Option<u16>) -> Segment {
    let state = vec![StateChange { key: format!("{of:?}"), value: None }];
    Segment { of, outputs: Outputs { state, ..Outputs::default() } }
}

fn batch(segments: &[Option<u16>], failures: &[(u16, ItemFailureKind)]) -> Outcome {
    let segments = segments.iter().map(|of| segment(*of)).collect();
    let failures = failures.iter().map(|(index, kind)| failed(*index, *kind)).collect();
    Outcome::BatchDone(BatchOutputs { segments, failures })
}

/// Of each event a letter, and for whom something is committed.
fn told(outcome: Outcome, given: Given) -> (String, Vec<Option<u16>>) {
    let answer = read(outcome, given).unwrap();
    let letter = |fate: &Fate| match fate {
        Fate::Done => 'd',
        Fate::Retry(_) => 'r',
        Fate::Reject(_) => 'x',
        Fate::Again => '.',
    };
    let segments = answer.segments.iter().map(|segment| segment.of).collect();
    (answer.fates.iter().map(letter).collect(), segments)
}

#[test]
fn with_order_the_first_failure_decides() {
    use ItemFailureKind::{Reject, Retry};
    let all = [None, Some(0), Some(1), Some(2), Some(4), Some(0)];
    let (fates, segments) = told(batch(&all, &[(4, Reject), (2, Retry), (3, Retry)]), FIVE);
    assert_eq!(fates, "ddr..");
    assert_eq!(segments, [None, Some(0), Some(1), Some(0)]);
    let (fates, segments) = told(batch(&all, &[(0, Reject)]), FIVE);
    assert_eq!((fates.as_str(), segments.len()), ("x....", 0), "nothing is finished");
}

#[test]
fn without_order_each_has_its_own_fate() {
    use ItemFailureKind::{Reject, Retry};
    let given = Given { ordered: false, ..FIVE };
    let all = [Some(4), None, Some(1)];
    let (fates, segments) = told(batch(&all, &[(4, Reject), (2, Retry)]), given);
    assert_eq!((fates.as_str(), segments), ("ddrdx", vec![None, Some(1)]));
    assert_eq!(told(batch(&[], &[]), given).0, "ddddd");
    let retry = Outcome::Retry { reason: String::new() };
    assert_eq!(told(retry, given).0, "rrrrr");
}

#[test]
fn an_answer_that_names_what_was_not_given_is_a_fault() {
    use ItemFailureKind::Retry;
    let message = |outcome| read(outcome, FIVE).unwrap_err().message;
    let none = "the function named event 5 of a batch of 5: they count from 0";
    assert_eq!(message(batch(&[], &[(5, Retry)])), none);
    assert_eq!(message(batch(&[Some(5)], &[])), none);
    assert_eq!(message(batch(&[], &[(1, Retry), (1, Retry)])), "the function named event 1 twice");
    assert_eq!(message(Outcome::Done(Outputs::default())), "an answer to one event, for a batch");
    let one = Given { events: 1, batch: false, ..FIVE };
    assert!(read(batch(&[], &[]), one).is_err());
    let stateless = Given { scope: StateScope::None, ..FIVE };
    assert_eq!(read(batch(&[None], &[]), stateless).unwrap_err().kind, FaultKind::Denied);
}
