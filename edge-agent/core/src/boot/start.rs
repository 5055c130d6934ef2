//! Which slot is started.

use super::{Program, Slot, State, Version};
use crate::id::Digest;

/// What is found on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By slot, the digest of the program that is there; `None`: there is none that can be read.
    pub programs: [Option<Digest>; 2],
    /// Where the link `current` leads.
    pub linked: Option<Slot>,
}

impl Found {
    pub(super) fn program(&self, slot: Slot) -> Option<Digest> {
        self.programs[slot.index()]
    }
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A slot.
    Run {
        /// Which.
        slot: Slot,
        /// The state, to be durable before the start.
        state: Box<State>,
        /// Whether it differs from the one that was given.
        changed: bool,
    },
    /// There is no program: one is to be put into slot a.
    Empty,
    /// None of the programs is one that may run.
    Damaged,
}

/// Decides; `state` is `None` where none could be read.
#[must_use]
pub fn start(state: Option<&State>, found: &Found) -> Start {
    let Some(known) = state else { return adopt(found) };
    let mut next = known.clone();
    if let Some(trial) = &mut next.trial {
        let slot = known.confirmed.other();
        if !is_whole(known, found, slot) {
            next = known.take_back("its file is damaged or gone");
        } else if trial.tries_left == 0 {
            let tries = trial.tries;
            let reason = match &trial.last_end {
                Some(end) => format!("it was started {tries} times; the last time {end}"),
                None => format!("it was started {tries} times and never found well"),
            };
            next = known.take_back(&reason);
        } else {
            trial.tries_left -= 1;
            return Start::Run { slot, state: Box::new(next), changed: true };
        }
    }
    let confirmed = next.confirmed;
    if !is_whole(&next, found, confirmed) {
        if !is_whole(&next, found, confirmed.other()) {
            return if found.programs == [None; 2] { Start::Empty } else { Start::Damaged };
        }
        next.blame(confirmed, "its file is damaged or gone");
        next.confirmed = confirmed.other();
    }
    let changed = next != *known;
    Start::Run { slot: next.confirmed, state: Box::new(next), changed }
}

/// Whether the program of a slot is the one that the state names.
fn is_whole(state: &State, found: &Found, slot: Slot) -> bool {
    state.program(slot).is_some_and(|program| found.program(slot) == Some(program.digest))
}

/// Without a state the link says what proved itself last; without a link, what is there.
fn adopt(found: &Found) -> Start {
    let slots = found.linked.into_iter().chain(Slot::ALL);
    let slot = slots.into_iter().find(|slot| found.program(*slot).is_some());
    let Some(slot) = slot else { return Start::Empty };
    let program = |digest| Program { digest, version: Version::default() };
    let Some(digest) = found.program(slot) else { return Start::Empty };
    let mut state = State::new(slot, program(digest));
    state.programs[slot.other().index()] = found.program(slot.other()).map(program);
    Start::Run { slot, state: Box::new(state), changed: true }
}
