//! Crash replay: a real agent works on a disk that records every block write; then the power is cut
//! at many points of that record, and what is left is mounted, opened and judged.
//!
//! # Why the order proves an ack
//! Everything lies on one recorded disk: the file system of the agent, and behind it a page for each
//! client. A client that has a PUBACK (or PUBREC, or a message as a subscriber) writes so into its
//! page, directly and unsynced, before it does anything more. The recorder logs a write or a flush
//! when it is completed, before the host is told. So if the agent syncs, then acks, the log has the
//! flush, then the client's note. A cut behind the note takes the flush with it: what was acked must
//! be there. If the agent acks first, there are cuts between the note and the flush, and what was
//! acked may be gone: the judge says LOST.
//!
//! A gateway on a card, in an emulated machine, has its clients outside; [`card`] says how their notes
//! find their place in the log.
//!
//! # Invariants
//! - The notes of a client are never synced: that would flush the agent's writes too
//!   ([`witness`]).
//! - What was flushed is there, unless a run is to show that its judge can fail
//!   ([`Options::disk_lies`]); everything later is there, not there, or there in part, by the
//!   seed ([`image`]).
//! - A note is a lower bound of what the client knew at the cut.
//! - Mounts, loop devices and the daemon end with this process, also by a panic or Ctrl-C; what a
//!   SIGKILL left is ended and named by the next run in the same folder ([`host`]).
//!
//! # Limits
//! The recorder handles one request at a time, so that a write which races a flush is taken for
//! covered by it where it was completed first. The agent orders nothing by such a race: it waits for
//! each write before it syncs.

pub mod card;
mod image;
mod load;
mod log;
pub mod part;
mod points;
mod record;
mod recorder;
mod witness;

#[cfg(feature = "store")]
mod inspect;
#[cfg(feature = "store")]
mod judge;
#[cfg(feature = "store")]
mod on_card;
#[cfg(feature = "store")]
mod report;
#[cfg(feature = "store")]
mod run;
#[cfg(feature = "store")]
mod whole;

pub use crate::replay_options::Options;
#[cfg(feature = "store")]
pub use {
    report::{Point, Report},
    run::run,
};
