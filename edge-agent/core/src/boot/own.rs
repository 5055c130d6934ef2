//! The launcher's own program. A package's upgrade replaces the launcher, not the slots: its program is
//! offered to the slots once, as an update like any other.

use super::{Before, Formats, Offer, Program, Refusal, Slot, Source, State, TRIES_DEFAULT};
use super::{Terms, Version};
use crate::id::Digest;

/// The launcher's own program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The program.
    pub program: Program,
    /// Formats of data that it knows.
    pub formats: Formats,
}

/// Why the launcher's own program gets no trial.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwanted {
    /// It was looked at before.
    #[error("it was offered before")]
    Offered,
    /// It is the program that runs.
    #[error("it is the agent that proved itself")]
    Same,
    /// Whoever deployed the agent that runs wanted that one.
    #[error("its version {version} is not above {confirmed}, that of the agent that proved itself")]
    NotNewer {
        /// Its version.
        version: Version,
        /// That of the confirmed program.
        confirmed: Version,
    },
    /// Nothing is decided: the confirmed program is asked again the next time.
    #[error("the agent that runs does not say which version it is")]
    Unknown,
    /// As any update is refused.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

impl Own {
    fn digest(&self) -> Digest {
        self.program.digest
    }

    fn offer(&self) -> Offer {
        Offer { program: self.program.clone(), floor: Version::default(), force: false }
    }
}

impl State {
    /// Whether the launcher's own program gets a trial. A newer version does; so does another build of
    /// the same version, where the confirmed program came from the package as well.
    ///
    /// # Errors
    /// [`Unwanted`] says why not. But for a trial under way and [`Unwanted::Unknown`] that is final.
    pub fn wants(&self, own: &Own) -> Result<(), Unwanted> {
        if self.offered == Some(own.digest()) {
            return Err(Unwanted::Offered);
        }
        let Some(confirmed) = self.program(self.confirmed) else { return Err(Unwanted::Offered) };
        if confirmed.digest == own.digest() {
            return Err(Unwanted::Same);
        }
        let (version, before) = (own.program.version, confirmed.version);
        let is_rebuilt = version == before && self.offered == Some(confirmed.digest);
        if before == Version::default() && !is_rebuilt {
            return Err(Unwanted::Unknown);
        }
        if version <= before && !is_rebuilt {
            return Err(Unwanted::NotNewer { version, confirmed: before });
        }
        if self.data != 0 {
            self.check_formats(own.formats, self.data)?;
        }
        Ok(self.admit(&own.offer())?)
    }

    /// The launcher's own program stands in the free slot, and has its trial.
    pub(super) fn begin_own(&self, own: &Own) -> Self {
        let terms = Terms {
            by: Source::Package,
            before: self.usual,
            tries: TRIES_DEFAULT,
            data: self.data,
        };
        let begun = self.begin_trial(&own.offer(), terms);
        Self { offered: Some(own.digest()), ..begun }
    }

    /// The launcher's own program stands in a slot because there is no other that may run.
    pub(super) fn seeded(&self, slot: Slot, own: &Own) -> Self {
        let mut next = self.clone();
        next.programs[slot.index()] = Some(own.program.clone());
        Self { confirmed: slot, trial: None, owed: None, offered: Some(own.digest()), ..next }
    }

    /// An agent that proved itself stops, and says how things are; `None`: as ever.
    #[must_use]
    pub fn note_usual(&self, usual: Before) -> Option<Self> {
        (self.usual != usual).then(|| Self { usual, ..self.clone() })
    }
}
