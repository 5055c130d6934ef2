//! Which slot is started.

use super::{Own, Program, Slot, State, Version};
use crate::id::Digest;

/// What is seen of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seen {
    /// There is no file.
    #[default]
    Absent,
    /// Whether there is one, and which, the disk does not say: a bad block, a lack of permissions. It is
    /// not run, and nothing is written over it.
    Unreadable,
    /// A file of this digest.
    Present(Digest),
}

/// What is found on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The programs by slot.
    pub programs: [Seen; 2],
    /// Where the link `current` leads.
    pub linked: Option<Slot>,
    /// The launcher's own program; `None`: it cannot be had.
    pub own: Option<Own>,
    /// What came of [`Start::Ask`].
    pub said: Option<Said>,
}

/// What a program said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// SHA-256 of its file.
    pub digest: Digest,
    /// Its version; `None`: it did not say.
    pub version: Option<Version>,
}

impl Found {
    /// What is seen of a slot's program.
    #[must_use]
    pub fn program(&self, slot: Slot) -> Seen {
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
    /// The launcher's own program is to be put into a slot; then this is asked again.
    Put {
        /// Which.
        slot: Slot,
        /// To be durable before the slot is written; `None`: as it is.
        ahead: Option<Box<State>>,
        /// To be durable after it.
        then: Box<State>,
    },
    /// The program of this slot is to say which version it is, because nobody else has; then this is asked
    /// again, with the answer.
    Ask {
        /// Which.
        slot: Slot,
    },
    /// None of the programs is one that may run, and the launcher's own is no help.
    Stuck(Stuck),
}

/// Why there is nothing to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// The programs are damaged, gone, or were taken back.
    Damaged,
    /// The disk does not say what is there.
    Unreadable,
}

/// Decides; `state` is `None` where none could be read.
#[must_use]
pub fn start(state: Option<&State>, found: &Found) -> Start {
    let mut known = match state.map_or_else(|| adopt(found), |state| Ok(state.clone())) {
        Ok(known) => known,
        Err(start) => return start,
    };
    if must_ask(&mut known, found) {
        return Start::Ask { slot: known.confirmed };
    }
    let run = |slot, next: State| {
        let changed = Some(&next) != state;
        Start::Run { slot, state: Box::new(next), changed }
    };
    let mut next = match next_try(&known, found) {
        Try::Begins(next) => return run(next.confirmed.other(), next),
        Try::None(next) => next,
    };
    if !is_whole(&next, found, next.confirmed) {
        next = match without_confirmed(next, found) {
            Ok(next) => next,
            Err(start) => return start,
        };
    }
    if let Some(own) = &found.own {
        let slot = next.free();
        match next.wants(own) {
            // Another time, when the slot can be written.
            Ok(()) if found.program(slot) == Seen::Unreadable => {}
            Ok(()) => {
                let ahead = next.forget_free();
                let then = Box::new(ahead.begin_own(own));
                return Start::Put { slot, ahead: Some(Box::new(ahead)), then };
            }
            Err(_) => next.offered = Some(own.program.digest),
        }
    }
    run(next.confirmed, next)
}

/// Where the try that [`start`] began cannot be written down it is not made: this slot runs, if its program is
/// whole.
#[must_use]
pub fn instead_of_try(state: &State, found: &Found) -> Option<Slot> {
    is_whole(state, found, state.confirmed).then_some(state.confirmed)
}

/// Notes the version of a confirmed program that was adopted, so that a package can be compared with it; whether
/// it has yet to say that.
fn must_ask(known: &mut State, found: &Found) -> bool {
    let slot = known.confirmed;
    if !is_whole(known, found, slot) {
        return false;
    }
    let Some(program) = &mut known.programs[slot.index()] else { return false };
    if program.version != Version::default() {
        return false;
    }
    let said = found.said.filter(|said| said.digest == program.digest);
    program.version = said.and_then(|said| said.version).unwrap_or_default();
    said.is_none()
}

/// Whether a try is next, and the state with it.
enum Try {
    Begins(State),
    None(State),
}

fn next_try(known: &State, found: &Found) -> Try {
    let mut next = known.clone();
    let Some(trial) = &mut next.trial else { return Try::None(next) };
    let slot = known.confirmed.other();
    if !is_whole(known, found, slot) {
        next.trial = None;
        next.blame(slot, lost(found, slot), false);
        return Try::None(next);
    }
    if trial.tries_left > 0 {
        trial.tries_left -= 1;
        return Try::Begins(next);
    }
    let tries = trial.tries;
    let reason = match &trial.last_end {
        Some(end) => format!("it was started {tries} times; the last time {end}"),
        None => format!("it was started {tries} times and never found well"),
    };
    Try::None(known.take_back(&reason))
}

/// Whether the program of a slot is the one that the state names.
fn is_whole(state: &State, found: &Found, slot: Slot) -> bool {
    let named = state.program(slot).map(|program| Seen::Present(program.digest));
    named == Some(found.program(slot))
}

fn lost(found: &Found, slot: Slot) -> &'static str {
    match found.program(slot) {
        Seen::Unreadable => "its file cannot be read",
        Seen::Absent | Seen::Present(_) => "its file is damaged or gone",
    }
}

/// The confirmed program cannot run: the launcher's own does where it is the same one, else the one before
/// it, where that is whole and was not taken back, or else the launcher's own whatever it is.
fn without_confirmed(mut next: State, found: &Found) -> Result<State, Start> {
    let confirmed = next.confirmed;
    let other = confirmed.other();
    let lost_digest = next.program(confirmed).map(|program| program.digest);
    next.blame(confirmed, lost(found, confirmed), false);
    let is_barred = |digest: Digest| next.bar(digest).is_some();
    let same = found.own.as_ref().filter(|own| Some(own.program.digest) == lost_digest);
    if same.is_some() {
        return Err(put(&next, found, [confirmed, other], same));
    }
    let before = next.program(other).map(|program| program.digest);
    if is_whole(&next, found, other) && before.is_some_and(|digest| !is_barred(digest)) {
        next.confirmed = other;
        return Ok(next);
    }
    let own = found.own.as_ref().filter(|own| !is_barred(own.program.digest));
    Err(put(&next, found, [confirmed, other], own))
}

/// The launcher's own program goes into the first of the slots that can be written.
fn put(state: &State, found: &Found, slots: [Slot; 2], own: Option<&Own>) -> Start {
    let is_readable = |slot: &Slot| found.program(*slot) != Seen::Unreadable;
    match (slots.into_iter().find(is_readable), own) {
        (Some(slot), Some(own)) => {
            Start::Put { slot, ahead: None, then: Box::new(state.seeded(slot, own)) }
        }
        _ if slots.iter().all(is_readable) => Start::Stuck(Stuck::Damaged),
        _ => Start::Stuck(Stuck::Unreadable),
    }
}

/// Without a state the link says what proved itself last; without a link, what is there. Of the other
/// program nobody knows whether it did. What it is it says itself ([`Start::Ask`]).
fn adopt(found: &Found) -> Result<State, Start> {
    let own = found.own.as_ref();
    let named = |digest: Digest| match own.filter(|own| own.program.digest == digest) {
        Some(own) => own.program.clone(),
        None => Program { digest, version: Version::default() },
    };
    let slots = found.linked.into_iter().chain(Slot::ALL);
    let mut present = slots.filter_map(|slot| match found.program(slot) {
        Seen::Present(digest) => Some(State::new(slot, named(digest))),
        Seen::Absent | Seen::Unreadable => None,
    });
    present.next().ok_or_else(|| {
        let nothing = Program { digest: Digest([0; 32]), version: Version::default() };
        let mut empty = State::new(Slot::A, nothing);
        empty.programs = [None, None];
        put(&empty, found, Slot::ALL, own)
    })
}
