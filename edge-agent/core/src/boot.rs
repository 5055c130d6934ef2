//! Which of two agent programs starts: an update on trial, or the one that proved itself.
//!
//! A gateway has two slots for its agent. One is *confirmed*: its program proved itself. An update is
//! written into the other one and gets a *trial* of a few tries. A launcher asks [`start`] which
//! slot to run; the agent on trial asks [`health::judge`] whether it may stay. This module decides;
//! the launcher and the agent write down what it says before they act on it.
//!
//! # Invariants
//! - A try is counted durably before it begins: whatever happens during it, there is one less. One that
//!   somebody stopped is given back.
//! - The confirmed slot changes in one write, and only to a program that was found well here, or is the
//!   launcher's own. One that was taken back is never confirmed without another trial.
//! - The revision that brought an update and the update stand and fall together: it is not kept before
//!   it ([`health`]), and the write that confirms the slot is the one that keeps both
//!   ([`State::owed`]).
//! - The state stands in two copies ([`record`]); a write goes over the older one. A cut in it
//!   leaves the other.
//! - Nothing here overwrites the program of the confirmed slot unless it is known to be damaged or gone,
//!   nor a file that cannot be read. Without a state nobody knows which is the confirmed one: what does
//!   not say what it is gives way, and is written over where there is no other place.
//! - The list of failures, and every text in it, is bounded.

pub mod card;
pub mod health;
mod own;
pub mod record;
pub mod restart;
mod start;
pub mod system;
mod update;
mod version;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
pub use own::{Own, Unwanted};
pub use start::{Found, Said, Seen, Start, Stuck, instead_of_try, start};
pub use update::{Offer, Refusal, Terms};
pub use version::{Version, VersionError};

/// Starts of an update before it is taken back, where nobody says otherwise.
pub const TRIES_DEFAULT: u8 = 3;
/// Failed updates that are remembered.
pub const FAILURES_MAX: usize = 8;
/// Bytes of a reason.
pub const REASON_BYTES_MAX: usize = 160;

/// One of the two places for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its folder: `a` or `b`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The slot of a folder.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.as_str() == name)
    }

    const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// Numbers of the formats of data that a program knows: it reads all from `reads` on, and writes
/// `writes` once it is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formats {
    /// The oldest it reads.
    pub reads: u32,
    /// The one it writes, and the newest it reads.
    pub writes: u32,
}

impl Formats {
    /// Whether it reads data of this format.
    #[must_use]
    pub const fn reads(self, format: u32) -> bool {
        self.reads <= format && format <= self.writes
    }

    /// The format it may write: on trial that of the data as it is, because the program before it
    /// must be able to go on with it.
    #[must_use]
    pub const fn to_write(self, data: u32, on_trial: bool) -> u32 {
        if on_trial { data } else { self.writes }
    }
}

/// A program in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// SHA-256 of its file.
    pub digest: Digest,
    /// Its version; 0.0.0 where nobody said.
    pub version: Version,
}

/// What was so before an update: an update is not blamed for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The control plane was not reached.
    pub link_down: bool,
    /// Apps that were not ready and functions that were paused.
    pub ill: u32,
}

/// Who brought an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A revision of an app: its digest.
    Revision(Digest),
    /// The package that the launcher came with.
    Package,
}

/// An update on trial, in the slot that is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Who brought it.
    pub by: Source,
    /// Starts that are left.
    pub tries_left: u8,
    /// Starts that it was given.
    pub tries: u8,
    /// What was so before it.
    pub before: Before,
    /// The floor that it brings, once it is confirmed.
    pub floor: Version,
    /// How its last try ended.
    pub last_end: Option<String>,
}

/// A program that did not stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The program.
    pub program: Program,
    /// Why, at most [`REASON_BYTES_MAX`].
    pub reason: String,
    /// It had its chance, and is not tried again unless somebody says so. Not so where only its file
    /// was lost.
    pub barred: bool,
    /// The control plane was told of it.
    pub told: bool,
}

/// What is known of the two slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Programs by slot; `None`: empty, or being written.
    pub programs: [Option<Program>; 2],
    /// The slot whose program proved itself.
    pub confirmed: Slot,
    /// The trial of the program in the other slot.
    pub trial: Option<Trial>,
    /// Programs of lower versions are refused.
    pub floor: Version,
    /// Number of the format that the data is in; 0: no agent has said yet.
    pub data: u32,
    /// Programs that did not stay, the newest last; at most [`FAILURES_MAX`].
    pub failures: Vec<Failure>,
    /// The revision that is kept with the confirmed program, until the ledger of deployments says so too.
    pub owed: Option<Digest>,
    /// The launcher's own program that was looked at last: each is offered once.
    pub offered: Option<Digest>,
    /// How things were when an agent that proved itself stopped last.
    pub usual: Before,
}

/// How a run of a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop, and did.
    Stopped,
    /// It asked for the launcher to look at the state anew.
    Switch,
    /// Otherwise: an exit, a signal, a hang, in words.
    Failed(String),
}

impl State {
    /// A slot with the only program there is.
    #[must_use]
    pub fn new(confirmed: Slot, program: Program) -> Self {
        let mut programs = [None, None];
        programs[confirmed.index()] = Some(program);
        Self {
            programs,
            confirmed,
            trial: None,
            floor: Version::default(),
            data: 0,
            failures: Vec::new(),
            owed: None,
            offered: None,
            usual: Before::default(),
        }
    }

    /// The program in a slot.
    #[must_use]
    pub fn program(&self, slot: Slot) -> Option<&Program> {
        self.programs[slot.index()].as_ref()
    }

    /// The slot on trial.
    #[must_use]
    pub fn on_trial(&self) -> Option<Slot> {
        self.trial.is_some().then(|| self.confirmed.other())
    }

    /// Why the program of this digest did not stay here; `None`: it did.
    #[must_use]
    pub fn failure(&self, digest: Digest) -> Option<&Failure> {
        self.failures.iter().find(|failure| failure.program.digest == digest)
    }

    /// Why the program of this digest is not tried again; `None`: it may be.
    #[must_use]
    pub fn bar(&self, digest: Digest) -> Option<&Failure> {
        self.failure(digest).filter(|failure| failure.barred)
    }

    /// The state after a run of the program in `slot`; `None` where that changes nothing.
    #[must_use]
    pub fn ended(&self, slot: Slot, end: End) -> Option<Self> {
        if self.on_trial() != Some(slot) {
            return None;
        }
        let mut next = self.clone();
        let trial = next.trial.as_mut()?;
        match end {
            // Whoever stops the machine tries nothing, however the program takes it: the try is given back.
            End::Stopped => trial.tries_left = trial.tries_left.saturating_add(1).min(trial.tries),
            End::Switch => return None,
            End::Failed(how) => trial.last_end = Some(clipped(how)),
        }
        Some(next)
    }

    /// The update on trial is well: it is the confirmed one from now on, and so is `revision`, which
    /// brought it. `data` is the format that the data is in.
    #[must_use]
    pub fn confirm(&self, data: u32, revision: Option<Digest>) -> Self {
        let mut next = self.clone();
        if let Some(trial) = next.trial.take() {
            next.confirmed = next.confirmed.other();
            next.floor = next.floor.max(trial.floor);
            next.owed = revision;
            let kept = next.program(next.confirmed).map(|program| program.digest);
            // It was forced, and is well now.
            next.failures.retain(|failure| Some(failure.program.digest) != kept);
        }
        next.data = data;
        next
    }

    /// The update on trial goes; without one nothing changes.
    #[must_use]
    pub fn take_back(&self, reason: &str) -> Self {
        let mut next = self.clone();
        if next.trial.take().is_some() {
            next.blame(self.confirmed.other(), reason, true);
        }
        next
    }

    /// The ledger of deployments says what [`State::owed`] says.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self { owed: None, ..self.clone() }
    }

    /// The control plane was told of all failures.
    #[must_use]
    pub fn told(&self) -> Self {
        let mut next = self.clone();
        next.failures.iter_mut().for_each(|failure| failure.told = true);
        next
    }

    /// Notes that the program of a slot did not stay; the oldest such note makes room.
    fn blame(&mut self, slot: Slot, reason: &str, barred: bool) {
        let Some(program) = self.program(slot).cloned() else { return };
        // Whatever happens to its file in a forced trial, the bar of before stands.
        let barred = barred || self.bar(program.digest).is_some();
        self.failures.retain(|failure| failure.program.digest != program.digest);
        if self.failures.len() >= FAILURES_MAX {
            self.failures.remove(0);
        }
        let reason = clipped(reason.to_owned());
        self.failures.push(Failure { program, reason, barred, told: false });
    }
}

/// At most [`REASON_BYTES_MAX`] of a text.
fn clipped(mut text: String) -> String {
    let mut end = REASON_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
