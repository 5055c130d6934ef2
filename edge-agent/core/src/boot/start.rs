//! Which slot is started.

use super::{Own, Program, Slot, State, Unwanted, Version};
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
    /// What came of [`Start::Ask`], by slot.
    pub said: [Option<Said>; 2],
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

    /// What came of asking the program of a slot; else that it is to be asked.
    fn answer(&self, slot: Slot, digest: Digest) -> Result<Said, Start> {
        self.said[slot.index()].filter(|said| said.digest == digest).ok_or(Start::Ask { slot })
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
    let known = match state.filter(|state| !state.is_unproved()) {
        Some(state) => named(state, found),
        None => adopt(state, found),
    };
    let known = match known {
        Ok(known) => known,
        Err(start) => return start,
    };
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
            // The program that runs may say it the next time.
            Err(Unwanted::Unknown) => {}
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

/// The state with the version of a confirmed program that did not say it before, so that a package can be
/// compared with it. One that proved itself and still does not say it runs all the same.
fn named(state: &State, found: &Found) -> Result<State, Start> {
    let mut next = state.clone();
    let slot = state.confirmed;
    if !is_whole(state, found, slot) {
        return Ok(next);
    }
    match &mut next.programs[slot.index()] {
        Some(program) if program.version == Version::default() => {
            let said = found.answer(slot, program.digest)?;
            program.version = said.version.unwrap_or_default();
        }
        _ => {}
    }
    Ok(next)
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

/// Why the program of a slot is not adopted.
const SILENT: &str = "its file is damaged, or does not start: it does not say which version it is";

/// Without a state the link says what proved itself last; without a link, what is there. Of the other
/// program nobody knows whether it did. What it is it says itself ([`Start::Ask`]). No digest is known that
/// would show damage: one that does not answer is lost, and the other one is asked, then the launcher's own
/// program takes its place. `before` is a state that was begun so, and whose program never worked since.
fn adopt(before: Option<&State>, found: &Found) -> Result<State, Start> {
    let mut next = before.cloned().unwrap_or_else(State::empty);
    let own = found.own.as_ref().filter(|own| next.bar(own.program.digest).is_none());
    let mut silent = Vec::new();
    let first = found.linked.unwrap_or(Slot::A);
    for slot in [first, first.other()] {
        let Seen::Present(digest) = found.program(slot) else { continue };
        let is_other = next.program(slot).is_some_and(|program| program.digest != digest);
        if is_other || next.bar(digest).is_some() {
            continue;
        }
        let own = own.map(|own| &own.program).filter(|own| own.digest == digest);
        let version = match own {
            Some(own) => Some(own.version),
            None => found.answer(slot, digest)?.version,
        };
        let program = Program { digest, version: version.unwrap_or_default() };
        if version.is_some() {
            next.lose(silent);
            return Ok(next.adopted(slot, program));
        }
        silent.push((slot, program));
    }
    match silent.first().cloned() {
        None => Err(put(&next, found, Slot::ALL, own)),
        // There is nothing better, and it may be well.
        Some((slot, program)) if own.is_none() => Ok(next.adopted(slot, program)),
        // Into the other slot, if that can be written: this one is not known to be damaged.
        Some((slot, _)) => {
            next.lose(silent);
            Err(put(&next, found, [slot.other(), slot], own))
        }
    }
}

impl State {
    /// Nothing is known.
    fn empty() -> Self {
        let nothing = Program { digest: Digest([0; 32]), version: Version::default() };
        Self { programs: [None, None], ..Self::new(Slot::A, nothing) }
    }

    /// The confirmed program was adopted without a word of it, and no agent has worked here since: each says
    /// the format of the data.
    fn is_unproved(&self) -> bool {
        let confirmed = self.program(self.confirmed);
        let is_unnamed = confirmed.is_some_and(|program| program.version == Version::default());
        is_unnamed && self.data == 0 && self.trial.is_none()
    }

    /// A program in a slot is taken for one that proved itself.
    fn adopted(mut self, slot: Slot, program: Program) -> Self {
        self.programs[slot.index()] = Some(program);
        self.confirmed = slot;
        self
    }

    /// These programs are not adopted.
    fn lose(&mut self, silent: Vec<(Slot, Program)>) {
        for (slot, program) in silent {
            self.programs[slot.index()] = Some(program);
            self.blame(slot, SILENT, false);
            self.programs[slot.index()] = None;
        }
    }
}
