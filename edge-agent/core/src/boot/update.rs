//! Taking an update: whether it may have a trial, and what is written down for one.

use super::{Before, Formats, Program, Slot, Source, State, Trial, Version};

/// A program that a deployment brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The program.
    pub program: Program,
    /// Once it is confirmed, lower versions are refused.
    pub floor: Version,
    /// It is tried again where it failed before. A floor holds all the same: whoever has an old
    /// signed deployment must not be able to bring its holes back.
    pub force: bool,
}

/// What a trial begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who brought the update.
    pub by: Source,
    /// How things are before it.
    pub before: Before,
    /// Starts that it has.
    pub tries: u8,
    /// The format that the data is in.
    pub data: u32,
}

/// Why an update is not tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One at a time.
    #[error(
        "the agent that runs is itself on trial: deploy again once `edge-agent status` calls its slot \
         confirmed"
    )]
    OnTrial,
    /// It had its chance.
    #[error(
        "this program was taken back here before: {reason}; build another one, or say `force = true` in \
         [agent]"
    )]
    FailedBefore {
        /// Why it was taken back.
        reason: String,
    },
    /// It is older than what was ruled out.
    #[error(
        "its version {version} is below the floor {floor} that an agent of this gateway set: deploy a \
         later one"
    )]
    BelowFloor {
        /// Its version.
        version: Version,
        /// The floor.
        floor: Version,
    },
    /// It does not know the format of the data.
    #[error(
        "it reads data of the formats {} to {}, and the data of this gateway has format {data}: deploy an \
         agent that reads both first", formats.reads, formats.writes
    )]
    CannotRead {
        /// What it knows.
        formats: Formats,
        /// Format of the data.
        data: u32,
    },
    /// Once it wrote, the agent before it could not read.
    #[error(
        "it writes data of format {writes}, two or more above format {data} of this gateway: deploy the \
         agents between them one after the other"
    )]
    TooFar {
        /// What it writes.
        writes: u32,
        /// Format of the data.
        data: u32,
    },
}

impl State {
    /// Whether an update may have a trial, by what its deployment says.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn admit(&self, offer: &Offer) -> Result<(), Refusal> {
        if self.trial.is_some() {
            return Err(Refusal::OnTrial);
        }
        let (version, floor) = (offer.program.version, self.floor);
        if version < floor {
            return Err(Refusal::BelowFloor { version, floor });
        }
        match self.bar(offer.program.digest).filter(|_| !offer.force) {
            Some(failure) => Err(Refusal::FailedBefore { reason: failure.reason.clone() }),
            None => Ok(()),
        }
    }

    /// Whether a program that knows these formats can go on with the data, and the one before it
    /// after that. No word overrules this.
    ///
    /// # Errors
    /// [`Refusal::CannotRead`], [`Refusal::TooFar`].
    pub fn check_formats(&self, formats: Formats, data: u32) -> Result<(), Refusal> {
        if formats.writes > data.saturating_add(1) {
            return Err(Refusal::TooFar { writes: formats.writes, data });
        }
        if formats.reads(data) { Ok(()) } else { Err(Refusal::CannotRead { formats, data }) }
    }

    /// The slot that an update is written into.
    #[must_use]
    pub const fn free(&self) -> Slot {
        self.confirmed.other()
    }

    /// The free slot is about to be written, or its update goes without blame because nobody wants it any
    /// more: nothing is known of it.
    #[must_use]
    pub fn forget_free(&self) -> Self {
        let mut next = self.clone();
        next.trial = None;
        next.programs[next.free().index()] = None;
        next
    }

    /// The update stands in the free slot, whole and durable: its trial begins with the next start.
    #[must_use]
    pub fn begin_trial(&self, offer: &Offer, terms: Terms) -> Self {
        let Terms { by, before, tries, data } = terms;
        let mut next = self.forget_free();
        next.programs[next.free().index()] = Some(offer.program.clone());
        let tries = tries.max(1);
        let floor = offer.floor;
        next.trial = Some(Trial { by, tries_left: tries, tries, before, floor, last_end: None });
        next.data = data;
        next
    }
}
