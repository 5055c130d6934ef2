//! What became of the events of an attempt, and what of it takes effect.

use edge_core::outcome::{ItemFailure, Outcome, Outputs};

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End<'o> {
    /// It is done.
    Done,
    /// The function named it as not done.
    Failed(&'o ItemFailure),
    /// It stands behind one that failed, in order, and would come again.
    Again,
    /// The attempt as a whole was not ok.
    NotOk,
}

/// What became of each event, in order.
pub(super) struct Ends<'o>(Vec<End<'o>>);

impl<'o> Ends<'o> {
    /// Of so many events.
    pub(super) fn of(outcome: &'o Outcome, events: usize, in_order: bool) -> Self {
        let batch = match outcome {
            Outcome::BatchDone(batch) => batch,
            Outcome::Done(_) => return Self(vec![End::Done; events]),
            Outcome::Retry { .. } | Outcome::Reject { .. } | Outcome::Fault(_) => {
                return Self(vec![End::NotOk; events]);
            }
        };
        let mut ends = vec![End::Done; events];
        for failure in &batch.failures {
            ends[usize::from(failure.index)] = End::Failed(failure);
        }
        let first = ends.iter().position(|end| *end != End::Done);
        if let (true, Some(first)) = (in_order, first) {
            ends[first + 1..].fill(End::Again);
        }
        Self(ends)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = End<'o>> {
        self.0.iter().copied()
    }

    pub(super) fn not_done(&self) -> usize {
        self.0.iter().filter(|end| **end != End::Done).count()
    }

    /// What was done for the event at `of`, or for the whole, where that takes effect.
    pub(super) fn effects_for(&self, outcome: &'o Outcome, of: Option<usize>) -> Vec<&'o Outputs> {
        let is_done = match of {
            Some(index) => self.0[index] == End::Done,
            None => self.0.contains(&End::Done),
        };
        match outcome {
            Outcome::Done(outputs) if of == Some(0) => vec![outputs],
            Outcome::BatchDone(batch) if is_done => {
                let of_it = batch.segments.iter().filter(|part| part.of.map(usize::from) == of);
                of_it.map(|part| &part.outputs).collect()
            }
            _ => Vec::new(),
        }
    }

    /// All that takes effect, in the order of the calls.
    pub(super) fn effects(&self, outcome: &'o Outcome) -> Vec<&'o Outputs> {
        match outcome {
            Outcome::BatchDone(batch) => {
                let kept = |of: Option<u16>| match of {
                    Some(index) => self.0[usize::from(index)] == End::Done,
                    None => self.0.contains(&End::Done),
                };
                let parts = batch.segments.iter().filter(|part| kept(part.of));
                parts.map(|part| &part.outputs).collect()
            }
            Outcome::Done(outputs) => vec![outputs],
            Outcome::Retry { .. } | Outcome::Reject { .. } | Outcome::Fault(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use edge_core::outcome::{BatchOutputs, ItemFailureKind, Segment, StateChange};

    use super::*;

    fn segment(of: Option<u16>, key: &str) -> Segment {
        let state = vec![StateChange { key: key.to_owned(), value: None }];
        Segment { of, outputs: Outputs { state, ..Outputs::default() } }
    }

    #[test]
    fn in_order_nothing_behind_a_failure_takes_effect() {
        let failure = ItemFailure { index: 1, kind: ItemFailureKind::Retry, reason: String::new() };
        let segments = [(Some(0), "0"), (Some(1), "1"), (Some(2), "2"), (None, "all")];
        let segments = segments.map(|(of, key)| segment(of, key)).to_vec();
        let outcome = Outcome::BatchDone(BatchOutputs { segments, failures: vec![failure] });
        let keys = |in_order| {
            let ends = Ends::of(&outcome, 3, in_order);
            let effects = ends.effects(&outcome);
            let keys = effects.iter().map(|outputs| outputs.state[0].key.clone());
            (ends.not_done(), keys.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(keys(true), (2, "0 all".to_owned()));
        assert_eq!(keys(false), (1, "0 2 all".to_owned()));
    }
}
