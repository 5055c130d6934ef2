//! Two slots for the agent's program, so that an update can take itself back
//! (`docs/agent-updates.md`). What is decided stands in [`edge_core::boot`].
//!
//! - [`slots`]: the folder with programs, state and link, written durably.
//! - [`supervise`]: the launcher, which starts a slot and watches it.
//! - [`Launched`]: the agent's side of it.
//! - [`install`]: an update into the free slot.
//!
//! # Invariants
//! - One launcher has the folder (a lock), and one agent (another lock, that the agent takes itself). While
//!   an agent runs only it writes the state, and only the launcher otherwise: a launcher waits for
//!   the end of an agent whose own one is gone.
//! - What reads the state to change it holds a lock of the process meanwhile ([`slots::Slots::change`]).
//! - A program gets its name when it is whole and durable; the running one is never written over.

pub mod install;
mod launched;
pub mod probe;
pub mod slots;
pub mod supervise;

#[cfg(test)]
mod tests;

pub use launched::{Beats, Launched};

/// With this code the agent asks its launcher to look at the state anew: an update is to be tried,
/// or to go.
pub const SWITCH_EXIT: u8 = 88;

/// The target triple that this program is built for.
pub const TARGET: &str = env!("HOLM_TARGET");

/// Names the folder of the slots to the agent.
pub(crate) const SLOTS_VARIABLE: &str = "HOLM_SLOTS";
/// Names the agent's own slot to it: `a` or `b`.
const SLOT_VARIABLE: &str = "HOLM_SLOT";
/// Tells the agent how many milliseconds apart it says that it lives.
const BEAT_VARIABLE: &str = "HOLM_BEAT_MS";
