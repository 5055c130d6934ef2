//! What an outcome means for each event of its attempt.
//!
//! # Rules of batches
//! - Without order, events that are named failed, the others are done.
//! - With order, the first one named decides: those before it are done, it failed, and all after it go
//!   again as if nothing had been said of them. So a lane never passes an unfinished event.
//! - An answer that names what was not given, or an event twice, is a fault: nothing of it is taken.

use crate::outcome::{BatchOutputs, Fault, FaultKind, ItemFailureKind, Outcome, Outputs, Segment};
use crate::release::StateScope;

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its job ends.
    Done,
    /// Another attempt, later; this one counts.
    Retry(String),
    /// It is given up.
    Reject(String),
    /// It goes again at once; nothing is counted.
    Again,
}

/// An answer of a function, for each of the events that it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// In the order of the events.
    pub(super) fates: Vec<Fate>,
    /// What is to be committed.
    pub(super) segments: Vec<Segment>,
}

/// What was given to a function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) events: usize,
    /// As a batch, if only of one.
    pub(super) batch: bool,
    /// They are of one lane, in its order.
    pub(super) ordered: bool,
    pub(super) scope: StateScope,
}

/// Reads an outcome. The runtime refuses what is a fault here; so do we.
pub(super) fn read(outcome: Outcome, given: Given) -> Result<Answer, Fault> {
    let all = |fate: Fate| Answer { fates: vec![fate; given.events], segments: Vec::new() };
    let answer = match outcome {
        Outcome::Fault(fault) => return Err(fault),
        Outcome::Retry { reason } => all(Fate::Retry(reason)),
        Outcome::Reject { reason } => all(Fate::Reject(reason)),
        Outcome::Done(outputs) if !given.batch => {
            Answer { fates: vec![Fate::Done], segments: vec![Segment { of: Some(0), outputs }] }
        }
        Outcome::BatchDone(outputs) if given.batch => by_index(outputs, given)?,
        Outcome::Done(_) => return Err(host("an answer to one event, for a batch")),
        Outcome::BatchDone(_) => return Err(host("an answer to a batch, for one event")),
    };
    let writes = |segment: &Segment| !segment.outputs.state.is_empty();
    if given.scope == StateScope::None && answer.segments.iter().any(writes) {
        let message = "the function wrote state but declares state = \"none\"".to_owned();
        return Err(Fault { kind: FaultKind::Denied, message });
    }
    Ok(answer)
}

fn by_index(outputs: BatchOutputs, given: Given) -> Result<Answer, Fault> {
    let events = given.events;
    let count = u16::try_from(events).map_err(|_| host("a batch with too many events"))?;
    let done = outputs.done(count, given.ordered);
    let BatchOutputs { mut segments, failures } = outputs;
    let none = |index: u16| {
        refused(format!(
            "the function named event {index} of a batch of {events}: they count from 0"
        ))
    };
    let mut fates = vec![Fate::Done; events];
    for failure in failures {
        let fate = fates.get_mut(usize::from(failure.index)).ok_or_else(|| none(failure.index))?;
        if *fate != Fate::Done {
            return Err(refused(format!("the function named event {} twice", failure.index)));
        }
        *fate = match failure.kind {
            ItemFailureKind::Retry => Fate::Retry(failure.reason),
            ItemFailureKind::Reject => Fate::Reject(failure.reason),
        };
    }
    let beyond = |segment: &Segment| segment.of.filter(|of| usize::from(*of) >= events);
    if let Some(index) = segments.iter().find_map(beyond) {
        return Err(none(index));
    }
    if given.ordered
        && let Some(first) = fates.iter().position(|fate| *fate != Fate::Done)
    {
        fates[first + 1..].fill(Fate::Again);
    }
    segments.retain(|segment| segment.takes_effect(&done));
    segments.retain(|segment| segment.outputs != Outputs::default());
    Ok(Answer { fates, segments })
}

fn refused(message: String) -> Fault {
    Fault { kind: FaultKind::Outputs, message }
}

fn host(message: &str) -> Fault {
    Fault { kind: FaultKind::Host, message: message.to_owned() }
}

#[cfg(test)]
mod tests;
