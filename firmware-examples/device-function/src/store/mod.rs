//! What a function keeps between events, in flash: its state, and what it published and nobody has taken over yet.
//!
//! # Invariants
//! - State and publishes of an event are one record of the journal: after a power cut both are there, or neither.
//! - What was published stays owed until [`Store::handed_over`] is noted. A power cut between taking over and
//!   that note hands the publishes of this one event over a second time: none is lost, one may come twice.
//! - One function owns the region. State of another one is gone when it is opened; what is owed stays owed.

mod journal;
mod slots;

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use embedded_storage_async::nor_flash::NorFlash;
use serde::{Deserialize, Serialize};

use self::journal::Journal;
pub use self::journal::StoreError;
pub use self::slots::{Slots, Trial, Why};
use crate::effects::{Effects, Publication, StateChange};
use crate::state::State;

/// A record of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    /// All there is, of the function of this name.
    Whole { function: String, state: Vec<(String, Vec<u8>)>, owed: Vec<Publication> },
    /// What one event changed and published.
    Event { changes: Vec<StateChange>, publishes: Vec<Publication> },
    /// All that was published was taken over.
    HandedOver,
}

/// State of one function, in a region of flash and in memory.
#[derive(Debug)]
pub struct Store<F> {
    journal: Journal<F>,
    function: String,
    state: State,
    owed: Vec<Publication>,
    /// Records that could not be read although they are whole: of another format.
    unreadable: u32,
}

impl<F: NorFlash> Store<F> {
    /// Opens what `function` (`app/function`) kept; of another function only what is owed is kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(flash: F, function: &str) -> Result<Self, StoreError> {
        let (mut state, mut owed, mut unreadable) = (State::default(), Vec::new(), 0);
        let mut is_own = false;
        let journal = Journal::open(flash, |record| match postcard::from_bytes(record) {
            Ok(Entry::Whole { function: of, state: entries, owed: all }) => {
                is_own = of == function;
                (state, owed) = (State::default(), all);
                if is_own {
                    state.apply(&entries.into_iter().map(present).collect::<Vec<_>>());
                }
            }
            Ok(Entry::Event { changes, publishes }) => {
                if is_own {
                    state.apply(&changes);
                }
                owed.extend(publishes);
            }
            Ok(Entry::HandedOver) => owed.clear(),
            Err(_) => unreadable += 1,
        });
        let mut journal = journal.await?;
        if !is_own {
            let whole =
                Entry::Whole { function: function.into(), state: Vec::new(), owed: owed.clone() };
            journal.begin(&bytes(&whole)).await?;
        }
        Ok(Self { journal, function: function.into(), state, owed, unreadable })
    }

    /// The state, for [`Function::process`](crate::Function::process), which changes it. What it changed is to be
    /// [committed](Self::commit) before the next event.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whole records of another format that were passed over when it was opened.
    #[must_use]
    pub fn unreadable(&self) -> u32 {
        self.unreadable
    }

    /// Keeps what an event changed and published; both are in flash when it returns.
    ///
    /// # Errors
    /// [`StoreError`]: memory and flash differ then, and the store is to be opened anew.
    pub async fn commit(&mut self, effects: Effects) -> Result<(), StoreError> {
        let Effects { publishes, state: changes, .. } = effects;
        if changes.is_empty() && publishes.is_empty() {
            return Ok(());
        }
        let entry = Entry::Event { changes, publishes };
        let is_kept = self.journal.append(&bytes(&entry)).await?;
        let Entry::Event { publishes, .. } = entry else { unreachable!("made above") };
        self.owed.extend(publishes);
        if is_kept { Ok(()) } else { self.begin().await }
    }

    /// What was published and is to be taken over, oldest first.
    #[must_use]
    pub fn owed(&self) -> &[Publication] {
        &self.owed
    }

    /// All that is owed was taken over by who keeps it safe from now on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn handed_over(&mut self) -> Result<(), StoreError> {
        if self.owed.is_empty() {
            return Ok(());
        }
        self.owed.clear();
        let is_kept = self.journal.append(&bytes(&Entry::HandedOver)).await?;
        if is_kept { Ok(()) } else { self.begin().await }
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        let state = self.state.entries().map(|(key, value)| (key.into(), value.to_vec()));
        let (function, state) = (self.function.clone(), state.collect());
        let whole = Entry::Whole { function, state, owed: self.owed.clone() };
        self.journal.begin(&bytes(&whole)).await
    }
}

fn present((key, value): (String, Vec<u8>)) -> StateChange {
    StateChange { key, value: Some(value) }
}

fn bytes(entry: &Entry) -> Vec<u8> {
    postcard::to_allocvec(entry).expect("invariant: memory takes any entry")
}
