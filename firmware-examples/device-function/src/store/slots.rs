//! Two slots for a function: which one runs, and whether it is on trial.
//!
//! ```text
//!            arm             start            confirm
//!   Settled ─────> Armed ──────────> Running ─────────> Settled (the other slot)
//!                                       │ take back, or a start before it is confirmed
//!                                       └──────────────> TakenBack ── confirm ──> Settled (the former slot)
//! ```
//!
//! # Invariants
//! - A step is one record of a journal: after a power cut it was done, or it was not.
//! - A slot has one start to prove itself. A second start while it is on trial takes it back.
//! - The slot that is not active is the only one that may be written.

use embedded_storage_async::nor_flash::NorFlash;

use super::journal::{Journal, StoreError};

/// Where a function in a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Nothing special.
    Settled,
    /// The other slot is to be active from the next start on.
    Armed,
    /// The active slot is new and has not proved itself.
    Running,
    /// The active slot is the former one; the new one was taken back.
    TakenBack(Why),
}

/// Why a new function was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not a function that this device can run.
    Load,
    /// Too many events in a row ended in a fault.
    Faults,
    /// The device started anew before the function had proved itself.
    Restart,
    /// What an event left was not taken over in time.
    Undelivered,
}

impl Why {
    /// For people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Load => "the function does not load here",
            Self::Faults => "the function failed several events in a row",
            Self::Restart => "the device restarted before the function had proved itself",
            Self::Undelivered => "the device's queue did not take what the function published",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    active: u8,
    trial: Trial,
}

impl Choice {
    const FIRST: Self = Self { active: 0, trial: Trial::Settled };

    const fn other(self) -> u8 {
        1 - self.active
    }

    /// What a start makes of it.
    const fn started(self) -> Self {
        match self.trial {
            Trial::Armed => Self { active: self.other(), trial: Trial::Running },
            Trial::Running => self.back(Why::Restart),
            Trial::Settled | Trial::TakenBack(_) => self,
        }
    }

    const fn back(self, why: Why) -> Self {
        Self { active: self.other(), trial: Trial::TakenBack(why) }
    }

    const fn to_bytes(self) -> [u8; 2] {
        let trial = match self.trial {
            Trial::Settled => 0,
            Trial::Armed => 1,
            Trial::Running => 2,
            Trial::TakenBack(Why::Load) => 3,
            Trial::TakenBack(Why::Faults) => 4,
            Trial::TakenBack(Why::Restart) => 5,
            Trial::TakenBack(Why::Undelivered) => 6,
        };
        [self.active, trial]
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let &[active @ 0..=1, trial] = bytes else { return None };
        let trial = match trial {
            0 => Trial::Settled,
            1 => Trial::Armed,
            2 => Trial::Running,
            3 => Trial::TakenBack(Why::Load),
            4 => Trial::TakenBack(Why::Faults),
            5 => Trial::TakenBack(Why::Restart),
            6 => Trial::TakenBack(Why::Undelivered),
            _ => return None,
        };
        Some(Self { active, trial })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Slots<F> {
    journal: Journal<F>,
    choice: Choice,
}

impl<F: NorFlash> Slots<F> {
    /// To be called once a start: it makes the step from `Armed` or `Running`. A region of two pages is enough.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(flash: F) -> Result<Self, StoreError> {
        let mut found = Choice::FIRST;
        let journal = Journal::open(flash, |record| {
            found = Choice::from_bytes(record).unwrap_or(found);
        });
        let mut slots = Self { journal: journal.await?, choice: found };
        slots.set(found.started()).await?;
        Ok(slots)
    }

    /// The slot that runs: 0 or 1.
    #[must_use]
    pub fn active(&self) -> usize {
        self.choice.active.into()
    }

    /// Where its function stands.
    #[must_use]
    pub fn trial(&self) -> Trial {
        self.choice.trial
    }

    /// The other slot holds a verified image that is to run from the next start on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn arm(&mut self) -> Result<(), StoreError> {
        self.set(Choice { trial: Trial::Armed, ..self.choice }).await
    }

    /// The active slot stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn confirm(&mut self) -> Result<(), StoreError> {
        self.set(Choice { trial: Trial::Settled, ..self.choice }).await
    }

    /// The active slot, on trial, is not to run any more: the device has to start anew. Nothing happens where it is
    /// not on trial.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_back(&mut self, why: Why) -> Result<(), StoreError> {
        match self.choice.trial {
            Trial::Running => self.set(self.choice.back(why)).await,
            _ => Ok(()),
        }
    }

    async fn set(&mut self, choice: Choice) -> Result<(), StoreError> {
        if choice != self.choice {
            let record = choice.to_bytes();
            if !self.journal.append(&record).await? {
                self.journal.begin(&record).await?;
            }
            self.choice = choice;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{Nor, now};
    use super::*;

    fn start(flash: &Nor) -> Slots<Nor> {
        now(Slots::open(flash.clone())).unwrap()
    }

    fn state(slots: &Slots<Nor>) -> (usize, Trial) {
        (slots.active(), slots.trial())
    }

    #[test]
    fn a_new_function_that_proves_itself_stays() {
        let flash = Nor::new(2);
        let mut slots = start(&flash);
        assert_eq!(state(&slots), (0, Trial::Settled));
        now(slots.arm()).unwrap();
        assert_eq!(slots.active(), 0, "not before the next start");
        let mut slots = start(&flash);
        assert_eq!(state(&slots), (1, Trial::Running));
        now(slots.confirm()).unwrap();
        now(slots.take_back(Why::Faults)).unwrap();
        assert_eq!(state(&start(&flash)), (1, Trial::Settled));
    }

    #[test]
    fn one_that_does_not_is_taken_back_and_it_is_known_why() {
        let flash = Nor::new(2);
        for (how, why) in
            [(Some(Why::Faults), Why::Faults), (Some(Why::Load), Why::Load), (None, Why::Restart)]
        {
            let mut slots = start(&flash);
            assert_eq!(slots.active(), 0);
            now(slots.arm()).unwrap();
            let mut slots = start(&flash);
            if let Some(why) = how {
                now(slots.take_back(why)).unwrap();
            }
            drop(start(&flash));
            let mut slots = start(&flash);
            assert_eq!(state(&slots), (0, Trial::TakenBack(why)), "at each start until it is told");
            now(slots.confirm()).unwrap();
            assert_eq!(state(&start(&flash)), (0, Trial::Settled));
        }
    }

    proptest! {
        /// Whenever power is cut, the state afterwards is one of the two around the step that was cut.
        #[test]
        fn a_step_is_done_or_not(cuts in prop::collection::vec(0_usize..30, 1..40)) {
            let flash = Nor::new(2);
            let mut known = state(&start(&flash));
            for cut in cuts {
                flash.power(cut);
                let mut after = known;
                if let Ok(mut slots) = now(Slots::open(flash.clone())) {
                    known = state(&slots);
                    let done = match slots.trial() {
                        Trial::Settled => now(slots.arm()),
                        _ => now(slots.confirm()),
                    };
                    after = match (known, done.is_ok()) {
                        ((active, Trial::Settled), _) => (active, Trial::Armed),
                        ((active, _), _) => (active, Trial::Settled),
                    };
                    if done.is_ok() {
                        known = after;
                    }
                }
                flash.power(usize::MAX);
                let begun = |(active, trial)| {
                    let choice = Choice { active: u8::try_from(active).unwrap(), trial }.started();
                    (usize::from(choice.active), choice.trial)
                };
                let found = state(&start(&flash));
                let twice = begun(begun(known));
                prop_assert!(
                    [begun(known), begun(after), twice].contains(&found),
                    "{known:?} {after:?} {found:?}"
                );
                known = found;
            }
        }
    }
}
