//! What a function keeps between events, in flash: its state, and what it published and nobody has taken over yet.
//!
//! # Invariants
//! - State and publishes of an event are one record of the journal: after a power cut both are there, or neither.
//! - What was published stays owed until [`Store::handed_over`] is noted. A power cut between taking over and
//!   that note hands the publishes of this one event over a second time: none is lost, one may come twice.
//! - One function owns the region, and the state of the one before it is kept beside: a function of another name that is taken
//!   back costs nothing. Where both have no room, in flash or in the heap, the former one's goes. What is owed stays owed, whoever
//!   owes it.

mod journal;
mod keeper;
mod slots;

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use embedded_storage_async::nor_flash::NorFlash;
use serde::{Deserialize, Serialize};

use self::journal::Journal;
pub use self::journal::StoreError;
pub use self::keeper::{Keeper, Verdict};
pub use self::slots::{Slots, Trial, Why};
use crate::effects::{Effects, Publication, StateChange};
use crate::state::{State, entry_bytes};

/// Keys and values.
type Entries = Vec<(String, Vec<u8>)>;

/// A record of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    /// All there is, of the function of this name.
    Whole { function: String, state: Entries, owed: Vec<Publication> },
    /// What one event changed and published.
    Event { changes: Vec<StateChange>, publishes: Vec<Publication> },
    /// All that was published was taken over.
    HandedOver,
    /// All there is, of the function of this name and of the one before it.
    Two { function: String, state: Entries, owed: Vec<Publication>, former: Former },
}

/// The function that owned the region before.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Former {
    function: String,
    state: Entries,
}

/// State of one function, in a region of flash and in memory.
#[derive(Debug)]
pub struct Store<F> {
    journal: Journal<F>,
    function: String,
    state: State,
    owed: Vec<Publication>,
    former: Option<Former>,
    former_bytes_max: u64,
    /// Records that could not be read although they are whole: of another format.
    unreadable: u32,
}

impl<F: NorFlash> Store<F> {
    /// Opens what `function` (`app/function`) kept. Of the function that ran before, what is owed is kept, and the state for
    /// the case that it comes back; of those before that one, nothing. `former_bytes_max` is the heap that this may take:
    /// [`Function::spare_bytes`](crate::Function::spare_bytes).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(flash: F, function: &str, former_bytes_max: u64) -> Result<Self, StoreError> {
        let (mut owner, mut former) = (None, None);
        let (mut state, mut owed, mut unreadable) = (State::default(), Vec::new(), 0);
        let journal = Journal::open(flash, |record| match postcard::from_bytes(record) {
            Ok(Entry::Whole { function, state: entries, owed: all }) => {
                (owner, state, owed, former) = (Some(function), loaded(entries), all, None);
            }
            Ok(Entry::Two { function, state: entries, owed: all, former: other }) => {
                (owner, state, owed, former) = (Some(function), loaded(entries), all, Some(other));
            }
            Ok(Entry::Event { changes, publishes }) => {
                state.apply(&changes);
                owed.extend(publishes);
            }
            Ok(Entry::HandedOver) => owed.clear(),
            Err(_) => unreadable += 1,
        });
        let journal = journal.await?;
        let mut store = Self {
            journal,
            function: function.into(),
            state,
            owed,
            former,
            former_bytes_max,
            unreadable,
        };
        if owner.as_deref() != Some(function) {
            store.change_owner(owner).await?;
        } else if !store.has_room_for_former() {
            store.begin().await?;
        }
        Ok(store)
    }

    /// What is in memory is of another function, if of any.
    async fn change_owner(&mut self, owner: Option<String>) -> Result<(), StoreError> {
        let back = self.former.take().filter(|former| former.function == self.function);
        let own = back.map_or_else(State::default, |former| loaded(former.state));
        let other = core::mem::replace(&mut self.state, own);
        self.former = owner.map(|function| Former { function, state: entries(&other) });
        self.begin().await
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

    /// Three times: it is held, copied into a record and encoded when the journal begins anew.
    fn has_room_for_former(&self) -> bool {
        let entries = self.former.iter().flat_map(|former| &former.state);
        let bytes: usize = entries.map(|(key, value)| entry_bytes(key, value)).sum();
        3 * bytes as u64 <= self.former_bytes_max
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        if !self.has_room_for_former() {
            self.former = None;
        }
        loop {
            let (function, state) = (self.function.clone(), entries(&self.state));
            let owed = self.owed.clone();
            let record = bytes(&match self.former.clone() {
                None => Entry::Whole { function, state, owed },
                Some(former) => Entry::Two { function, state, owed, former },
            });
            match self.journal.begin(&record).await {
                Err(StoreError::TooLong) if self.former.is_some() => self.former = None,
                begun => return begun,
            }
        }
    }
}

fn entries(state: &State) -> Entries {
    state.entries().map(|(key, value)| (key.into(), value.to_vec())).collect()
}

fn loaded(entries: Entries) -> State {
    let mut state = State::default();
    let present = |(key, value)| StateChange { key, value: Some(value) };
    state.apply(&entries.into_iter().map(present).collect::<Vec<_>>());
    state
}

fn bytes(entry: &Entry) -> Vec<u8> {
    postcard::to_allocvec(entry).expect("invariant: memory takes any entry")
}
