//! A whole system, from kernel to root, as an update of a card image.
//!
//! A card has two slots for systems, and a boot loader that counts the starts of one on trial
//! ([`card`](super::card)). A helper that may write to the card keeps [`System`]; at each start, and when a system
//! is kept, it compares that with the boot record ([`System::settle`]). The agent sees the helper's [`View`] and
//! asks it for what [`next`] says.
//!
//! # Invariants
//! - Only the slot that does not run is written, and nothing is on trial while it is.
//! - The state says what is tried before the boot record does: a cut between the two leaves a trial that
//!   never began, which is forgotten, and asked for again.
//! - A system is kept by the boot record alone; the state and the revision that brought it follow.
//! - One that did not stay is not tried again for the same revision, and for another one only by force.

use serde::{Deserialize, Serialize};

use super::card::BootRecord;
use super::{FAILURES_MAX, Offer, Program, Slot, Version, clipped};
use crate::id::Digest;

/// Starts of the system before while the other one should be tried, after which it is not tried.
const PASSED_OVER_MAX: u8 = 3;

/// What is known of the two systems of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// What updates wrote into the slots, whole; `None`: what was flashed, or half of something.
    pub slots: [Option<Program>; 2],
    /// Lower versions are refused.
    pub floor: Version,
    /// The trial of a slot.
    pub trial: Option<Trial>,
    /// Systems that did not stay, the newest last; at most [`FAILURES_MAX`].
    pub failures: Vec<Failure>,
}

/// A system that is to prove itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Where it is.
    pub slot: Slot,
    /// The revision that brought it.
    pub by: Digest,
    /// The floor that it brings, once it is kept.
    pub floor: Version,
    /// Generation of the boot record that begins it.
    pub generation: u32,
    /// Starts in which it came as far as its data.
    pub came_up: u8,
    /// Starts of the other system meanwhile.
    pub passed_over: u8,
    /// It is about to end, without blame: nobody wants it any more.
    pub called_off: bool,
}

/// A system that did not stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The system.
    pub program: Program,
    /// The revision that brought it.
    pub by: Digest,
    /// Why.
    pub reason: String,
}

/// Why a system is not tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One at a time.
    #[error("another system is on trial: deploy again once `edge-agent status` shows none")]
    OnTrial,
    /// It had its chance.
    #[error(
        "this system was taken back here before: {reason}; build another one, or say `force = true` in [system]"
    )]
    FailedBefore {
        /// Why it was taken back.
        reason: String,
    },
    /// It is older than what was ruled out.
    #[error(
        "its version {version} is below the floor {floor} that a system of this gateway set: deploy a later one"
    )]
    BelowFloor {
        /// Its version.
        version: Version,
        /// The floor.
        floor: Version,
    },
}

/// When the state is compared with the boot record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Once in each start, before the agent.
    AtStart,
    /// Later on.
    Later,
}

/// What a comparison comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The state from now on.
    pub system: System,
    /// The boot record to write before it.
    pub record: Option<BootRecord>,
}

impl System {
    /// What an update wrote into a slot.
    #[must_use]
    pub fn program(&self, slot: Slot) -> Option<&Program> {
        self.slots[slot.index()].as_ref()
    }

    /// The system on trial.
    #[must_use]
    pub fn tried(&self) -> Option<&Program> {
        self.program(self.trial.as_ref()?.slot)
    }

    /// Whether a system may have a trial, by what its deployment says.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn admit(&self, offer: &Offer) -> Result<(), Refusal> {
        if self.trial.is_some() {
            return Err(Refusal::OnTrial);
        }
        let Program { digest, version } = offer.program;
        if version < self.floor {
            return Err(Refusal::BelowFloor { version, floor: self.floor });
        }
        let failed = self.failures.iter().find(|failure| failure.program.digest == digest);
        match failed.filter(|_| !offer.force) {
            Some(failure) => Err(Refusal::FailedBefore { reason: failure.reason.clone() }),
            None => Ok(()),
        }
    }

    /// A slot is about to be written: nothing is known of it.
    #[must_use]
    pub fn writing(&self, slot: Slot) -> Self {
        let mut next = self.clone();
        next.trial = None;
        next.slots[slot.index()] = None;
        next
    }

    /// A system stands in `slot`, whole and durable. Its trial begins with the boot record that follows
    /// `record`.
    #[must_use]
    pub fn written(&self, slot: Slot, offer: &Offer, by: Digest, record: BootRecord) -> Self {
        let mut next = self.writing(slot);
        next.slots[slot.index()] = Some(offer.program.clone());
        let (floor, generation) = (offer.floor, record.with_trial(None).generation);
        next.trial = Some(Trial {
            slot,
            by,
            floor,
            generation,
            came_up: 0,
            passed_over: 0,
            called_off: false,
        });
        next
    }

    /// Nobody wants the system on trial any more: whatever cuts the power from here on, it goes.
    #[must_use]
    pub fn calling_off(&self) -> Self {
        let mut next = self.clone();
        next.trial.iter_mut().for_each(|trial| trial.called_off = true);
        next
    }

    /// The trial is over, without blame.
    #[must_use]
    pub fn called_off(&self) -> Self {
        self.trial.as_ref().map_or_else(|| self.clone(), |trial| self.writing(trial.slot))
    }

    /// Compares with the boot record; `running` is the slot that runs.
    #[must_use]
    pub fn settle(&self, record: BootRecord, running: Slot, when: When) -> Settled {
        let mut system = self.clone();
        let Some(trial) = &mut system.trial else { return Settled { system, record: None } };
        // One that was kept before that was heard stays: it is what the boot loader starts.
        if trial.called_off && record.good != trial.slot {
            let record = record.trial.map(|_| record.with_trial(None));
            return Settled { system: self.called_off(), record };
        }
        let begun = record.generation.wrapping_sub(trial.generation) < u32::MAX / 2;
        if !begun {
            // Cut between the state and the boot record.
            return Settled { system: self.called_off(), record: None };
        }
        let at_start = u8::from(when == When::AtStart);
        let goes_on = record.trial.is_some() && record.good != trial.slot;
        match (running == trial.slot, goes_on) {
            (true, true) => trial.came_up = trial.came_up.saturating_add(at_start),
            (false, true) => {
                trial.passed_over = trial.passed_over.saturating_add(at_start);
                if trial.passed_over >= PASSED_OVER_MAX {
                    let starts = trial.passed_over;
                    let reason = format!("the boot loader passed it over in {starts} starts");
                    return Settled {
                        system: system.taken_back(&reason),
                        record: Some(record.with_trial(None)),
                    };
                }
            }
            (true, false) if record.good == running => {
                system.floor = system.floor.max(trial.floor);
                system.trial = None;
                let kept = system.program(running).map(|program| program.digest);
                // It was forced, and is well now.
                system.failures.retain(|failure| Some(failure.program.digest) != kept);
            }
            _ => {
                let reason = match trial.came_up {
                    0 => "no start of it came as far as its data, and the boot loader went back"
                        .to_owned(),
                    n => format!(
                        "it came up {n} times, and was not kept: its agent was not well in time, or did not reach \
                         the control plane"
                    ),
                };
                system = system.taken_back(&reason);
            }
        }
        Settled { system, record: None }
    }

    /// The system on trial goes, for this reason; without one nothing changes.
    #[must_use]
    pub fn taken_back(&self, reason: &str) -> Self {
        let mut next = self.clone();
        let Some(trial) = next.trial.take() else { return next };
        let Some(program) = next.slots[trial.slot.index()].take() else { return next };
        next.failures.retain(|failure| failure.program.digest != program.digest);
        if next.failures.len() >= FAILURES_MAX {
            next.failures.remove(0);
        }
        let reason = clipped(reason.to_owned());
        next.failures.push(Failure { program, by: trial.by, reason });
        next
    }
}

/// What the helper shows to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The board that the image is made for.
    pub board: String,
    /// Version of the system that runs.
    pub version: Version,
    /// The slot that runs.
    pub slot: Slot,
    /// The state.
    pub system: System,
    /// What became of the last thing that was asked, where it was refused.
    pub refused: Option<Refused>,
}

/// Something that was asked was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its number.
    pub ask: u64,
    /// Why.
    pub reason: String,
}

/// What the agent asks the helper for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Write the system that this revision brings into the free slot, and put it on trial.
    Install {
        /// A number of the agent's.
        ask: u64,
        /// The revision.
        revision: Digest,
    },
    /// Restart: what is in the free slot is to be tried.
    Restart,
    /// What is on trial goes.
    CallOff,
}

impl View {
    /// The system that runs is on trial.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.system.trial.as_ref().is_some_and(|trial| trial.slot == self.slot)
    }
}

/// What a live revision on probation wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The revision.
    pub revision: Digest,
    /// The system that it brings.
    pub offer: Offer,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// The helper or the boot loader has to do something first.
    Wait,
    /// Ask for the system to be written.
    Install,
    /// Ask for a restart.
    Restart,
    /// Ask for the end of a trial.
    CallOff,
    /// The system is kept, and so is its revision.
    Keep,
    /// The revision fails, for this reason.
    Fail(String),
}

/// Says what is to be done; `asked` is the number of what was asked last for the wanted revision.
#[must_use]
pub fn next(view: &View, wanted: Option<&Wanted>, asked: Option<u64>) -> Next {
    let system = &view.system;
    if system.trial.is_some() {
        let is_wanted = wanted.is_some_and(|wanted| system.tried() == Some(&wanted.offer.program));
        return match (is_wanted, view.is_on_trial()) {
            (false, _) => Next::CallOff,
            (true, true) => Next::Wait,
            (true, false) => Next::Restart,
        };
    }
    let Some(wanted) = wanted else { return Next::Nothing };
    // Neither what failed nor what was called off stays in its slot, by name.
    if system.program(view.slot) == Some(&wanted.offer.program) {
        return Next::Keep;
    }
    if let Some(failure) = system.failures.iter().find(|failure| failure.by == wanted.revision) {
        return Next::Fail(failure.reason.clone());
    }
    if let Err(refusal) = system.admit(&wanted.offer) {
        return Next::Fail(refusal.to_string());
    }
    match (&view.refused, asked) {
        (Some(refused), Some(ask)) if refused.ask == ask => Next::Fail(refused.reason.clone()),
        (_, Some(_)) => Next::Wait,
        (_, None) => Next::Install,
    }
}

#[cfg(test)]
mod tests;
