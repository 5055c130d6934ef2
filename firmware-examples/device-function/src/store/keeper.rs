//! What an event leaves, in its order: kept in flash, handed over, and only then it counts for the function or against it.
//!
//! # Invariants
//! - A [`Verdict`] is of what is kept: an event whose effects did not reach the flash, or whose publishes nobody took over, says
//!   nothing. Where that is an error the device starts anew, which takes a function on trial back; where it waits, whoever is about
//!   to confirm the function has to see that an event is being worked on.

use embedded_storage_async::nor_flash::NorFlash;

use super::{Store, StoreError};
use crate::effects::{Outcome, Publication};
use crate::state::State;

/// Events in a row that fault before a function is said to fail.
const FAULTS_MAX: u32 = 3;

/// How a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An event has not ended in a fault.
    Proven,
    /// Three in a row have.
    Fails,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper<F> {
    store: Store<F>,
    faults_in_a_row: u32,
}

impl<F: NorFlash> Keeper<F> {
    /// Over what the function kept.
    #[must_use]
    pub const fn new(store: Store<F>) -> Self {
        Self { store, faults_in_a_row: 0 }
    }

    /// The state, for [`Function::process`](crate::Function::process), whose outcome is to be [settled](Self::settle) before
    /// the next event.
    pub fn state_mut(&mut self) -> &mut State {
        self.store.state_mut()
    }

    /// Settles the outcome of an event that is not tried again; says how the function does, if that is known. `take` takes a
    /// publish over, and keeps it safe from when it returns.
    ///
    /// # Errors
    /// [`StoreError`], of the flash or of `take`: the device has to start anew.
    pub async fn settle(
        &mut self,
        outcome: Outcome,
        take: impl AsyncFnMut(&Publication) -> Result<(), StoreError>,
    ) -> Result<Option<Verdict>, StoreError> {
        if let Outcome::Fault(_) = outcome {
            self.faults_in_a_row += 1;
            return Ok((self.faults_in_a_row >= FAULTS_MAX).then_some(Verdict::Fails));
        }
        self.faults_in_a_row = 0;
        if let Outcome::Done(effects) = outcome {
            self.store.commit(effects).await?;
            self.hand_over(take).await?;
        }
        Ok(Some(Verdict::Proven))
    }

    /// Hands over what is owed, as after a power cut.
    ///
    /// # Errors
    /// As [`Keeper::settle`].
    pub async fn hand_over(
        &mut self,
        mut take: impl AsyncFnMut(&Publication) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for publication in self.store.owed() {
            take(publication).await?;
        }
        self.store.handed_over().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HEAP, Nor, event, now};
    use super::*;
    use crate::effects::{Fault, FaultKind};

    fn open(flash: &Nor) -> Keeper<Nor> {
        Keeper::new(now(Store::open(flash.clone(), "a/f", HEAP)).unwrap())
    }

    fn work(keeper: &mut Keeper<Nor>, n: u8) -> Result<Option<Verdict>, StoreError> {
        let effects = event(n, 9);
        keeper.state_mut().apply(&effects.state);
        now(keeper.settle(Outcome::Done(effects), async |_| Ok(())))
    }

    #[test]
    fn an_event_counts_only_when_what_it_left_is_kept() {
        for cut in 0.. {
            let flash = Nor::new(4);
            let mut keeper = open(&flash);
            flash.power(cut);
            let ended = work(&mut keeper, 1);
            flash.power(usize::MAX);
            let found = now(Store::open(flash.clone(), "a/f", HEAP)).unwrap();
            if ended.is_ok() {
                assert_eq!(ended, Ok(Some(Verdict::Proven)));
                assert_eq!((found.state().entries().count(), found.owed().len()), (2, 0));
                assert!(cut > 10, "cuts before it: {cut}");
                break;
            }
            assert_eq!(ended, Err(StoreError::Flash), "cut {cut}: no verdict");
        }
    }

    #[test]
    fn what_nobody_takes_over_stays_owed_and_counts_for_nothing() {
        let flash = Nor::new(4);
        let mut keeper = open(&flash);
        let settled =
            now(keeper.settle(Outcome::Done(event(1, 9)), async |_| Err(StoreError::Flash)));
        assert_eq!(settled, Err(StoreError::Flash));
        let (mut keeper, mut taken) = (open(&flash), 0);
        let take = async |_: &Publication| {
            taken += 1;
            Ok(())
        };
        assert_eq!(now(keeper.hand_over(take)), Ok(()));
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_function_fails_by_faults_in_a_row() {
        let mut keeper = open(&Nor::new(4));
        let fault = || Fault { kind: FaultKind::Trap, message: "unreachable".into() };
        let mut settle = |outcome| now(keeper.settle(outcome, async |_| Ok(()))).unwrap();
        let proven = Some(Verdict::Proven);
        for outcome in [Outcome::Reject("no".into()), Outcome::Retry("later".into())] {
            assert_eq!(settle(Outcome::Fault(fault())), None);
            assert_eq!(settle(Outcome::Fault(fault())), None);
            assert_eq!(settle(outcome), proven);
        }
        assert_eq!(settle(Outcome::Fault(fault())), None);
        assert_eq!(settle(Outcome::Fault(fault())), None);
        assert_eq!(settle(Outcome::Fault(fault())), Some(Verdict::Fails));
    }
}
